/** Readers of option values; each says what it wants. */
import { InvalidArgumentError } from 'commander';

const FACTORS: Readonly<Record<string, number>> = {
  '': 1,
  K: 1024,
  M: 1024 ** 2,
  G: 1024 ** 3,
  T: 1024 ** 4,
};

/** `256M`, `1.5G`, `4096` → bytes. */
export function parseBytes(text: string): number {
  const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?$/i.exec(text) ?? [];
  const bytes = Number(digits) * (FACTORS[unit.toUpperCase()] ?? Number.NaN);
  if (digits === '' || !Number.isSafeInteger(bytes)) {
    throw new InvalidArgumentError('Write a size such as 256M, 1G or 4096.');
  }
  return bytes;
}

export function parseCount(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('Write a whole number.');
  return Number(text);
}

/** Collects `key=value` options into one object. */
export function parseLabel(text: string, previous: Record<string, string> = {}): Record<string, string> {
  const split = text.indexOf('=');
  if (split <= 0) throw new InvalidArgumentError('Write it as key=value.');
  return { ...previous, [text.slice(0, split)]: text.slice(split + 1) };
}

export function collect(text: string, previous: readonly string[] = []): string[] {
  return [...previous, text];
}

export function parseTcpPort(text: string): number {
  const port = parseCount(text);
  if (port > 0xffff) throw new InvalidArgumentError('Write a port from 0 to 65535.');
  return port;
}

/** A number above 0, such as 2 or 0.5. */
export function parseSpeed(text: string): number {
  const speed = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || speed <= 0)
    throw new InvalidArgumentError('Write a number such as 2 or 0.5.');
  return speed;
}

export function parseSeconds(text: string): number {
  if (!/^\d+(\.\d+)?$/.test(text)) throw new InvalidArgumentError('Write seconds, such as 2 or 0.5.');
  return Number(text);
}

/** "none" on the command line, for a setting that is taken back: commander makes an empty text of null. */
export const NONE = Symbol('none');

/** What a body has for it. */
export function orNull<T>(value: T): Exclude<T, typeof NONE> | null {
  return value === NONE ? null : (value as Exclude<T, typeof NONE>);
}
