/**
 * UML's vector network devices, `vec<n>:<key>=<value>,…` (arch/um/drivers/vector_kern.c, vector_transports.c), in the words of the older
 * devices that do the same here: UML of Linux 6.16 and later has no others.
 */
import { wrong } from './wrong.ts';

export interface Vector {
  readonly unit: number;
  /** As behind `eth<n>=`. */
  readonly text: string;
  readonly warnings: readonly string[];
}

type Values = ReadonlyMap<string, string>;

const TRANSPORTS: Readonly<Record<string, (values: Values, word: string) => string>> = {
  tap: (values, word) => `tuntap,${required(values, 'ifname', word)},${macOf(values)}`,
  // It reads beside the device that it writes to, which is quicker on a host and otherwise the same.
  hybrid: (values, word) => `tuntap,${required(values, 'ifname', word)},${macOf(values)}`,
  raw: (values, word) => `pcap,${required(values, 'ifname', word)},,,,${macOf(values)}`,
  vde: (values, word) => `vde,${folderOf(required(values, 'vnl', word), word)},${macOf(values)}`,
};
/** How UML moves frames, which is no matter of these. */
const WITHOUT_EFFECT = ['depth', 'gro', 'headroom', 'mtu', 'vec'];
const KNOWN = ['ifname', 'mac', 'transport', 'vnl'];
const VNL = /^(?:vde:\/\/)?(\/[^[\]{}]+)$/;

/** AppError `invalid_input` for what is no vector device, or has a transport or a setting that this machine has not. */
export function parseVector(word: string): Vector {
  const [, digits, settings = ''] = /^vec(\d{1,4})(?::(.*))?$/s.exec(word) ?? [];
  if (digits === undefined || settings === '') {
    throw wrong(word, "lacks its ':' after the device number", 'write vec0:transport=tap,ifname=tap0');
  }
  const values = new Map(settings.split(',').map((setting) => pairOf(setting, word)));
  const kind = values.get('transport') ?? '';
  const read = Object.hasOwn(TRANSPORTS, kind) ? TRANSPORTS[kind] : undefined;
  if (read === undefined) {
    throw wrong(
      word,
      `has the transport ${JSON.stringify(kind.slice(0, 40))}`,
      `use ${Object.keys(TRANSPORTS).join(', ')}, or eth0 with another one of UML's`,
    );
  }
  const keys = [...values.keys()];
  const unknown = keys.find((key) => !KNOWN.includes(key) && !WITHOUT_EFFECT.includes(key));
  if (unknown !== undefined) {
    throw wrong(word, `has a setting ${unknown} that this machine does not have`, `use ${KNOWN.join(', ')}`);
  }
  const warnings = keys
    .filter((key) => WITHOUT_EFFECT.includes(key))
    .map((key) => `${key} of ${word} has no effect here`);
  return { unit: Number(digits), text: read(values, word), warnings };
}

function pairOf(setting: string, word: string): [string, string] {
  const equals = setting.indexOf('=');
  if (equals <= 0)
    throw wrong(word, `has a setting without a '=': ${setting.slice(0, 40)}`, 'write key=value');
  return [setting.slice(0, equals), setting.slice(equals + 1)];
}

function required(values: Values, key: string, word: string): string {
  const value = values.get(key);
  if (value) return value;
  throw wrong(word, `names no ${key}`, `add ${key}=…`);
}

function macOf(values: Values): string {
  return values.get('mac') ?? '';
}

/** Of VDE's locators, that of a switch on this host. */
function folderOf(locator: string, word: string): string {
  const folder = VNL.exec(locator)?.[1];
  if (folder !== undefined) return folder;
  throw wrong(
    word,
    `has the locator ${locator.slice(0, 80)}`,
    'name the folder of a switch: vnl=vde:///run/vde.ctl',
  );
}
