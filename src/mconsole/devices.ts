/** Device words of `config` and `remove`: the driver's name, then its number. */

export const DRIVERS = ['con', 'ssl', 'ubd', 'eth', 'vec', 'mem', 'hppfs', 'hostfs'] as const;
export type Driver = (typeof DRIVERS)[number];

export interface DeviceWord {
  readonly driver: Driver;
  /** What follows the driver's name. */
  readonly rest: string;
}

/** As UML: the first driver whose name begins the word. */
export function parseDevice(word: string): DeviceWord | undefined {
  const driver = DRIVERS.find((name) => word.startsWith(name));
  return driver === undefined ? undefined : { driver, rest: word.slice(driver.length) };
}

/** `3`, or for disks also `d`; and the flags behind it. Undefined when there is no number. */
export function parseUnit(rest: string, letters: boolean): { unit: number; flags: string } | undefined {
  const number = /^(\d{1,6})(.*)$/s.exec(rest);
  if (number !== null) return { unit: Number(number[1]), flags: number[2]! };
  const letter = letters ? /^([a-p])(.*)$/s.exec(rest) : null;
  if (letter !== null) return { unit: letter[1]!.charCodeAt(0) - 'a'.charCodeAt(0), flags: letter[2]! };
  return undefined;
}
