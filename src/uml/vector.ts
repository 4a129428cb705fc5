/**
 * UML's vector network devices, `vec<n>:<key>=<value>,…` (arch/um/drivers/vector_kern.c, vector_transports.c): UML of Linux 6.16 and later
 * has no others.
 */
import { checkEth, type Eth, type EthDraft, ethUnit } from './eth.ts';
import { wrong } from './wrong.ts';

export interface Vector {
  readonly unit: number;
  readonly eth: Eth;
}

type Values = ReadonlyMap<string, string>;

interface Kind {
  /** Its settings, besides those that all have. */
  readonly keys: readonly string[];
  read(values: Values, word: string): EthDraft['transport'];
}

const device: Kind = {
  keys: ['ifname'],
  read: (values, word) => ({ kind: 'tuntap', device: required(values, 'ifname', word) }),
};
const KINDS: Readonly<Record<string, Kind>> = {
  tap: device,
  // It reads beside the device that it writes to, which is quicker on a host and otherwise the same.
  hybrid: device,
  raw: {
    keys: ['ifname'],
    read: (values, word) => ({ kind: 'pcap', interface: required(values, 'ifname', word) }),
  },
  vde: {
    keys: ['vnl'],
    read: (values, word) => ({ kind: 'vde', folder: folderOf(required(values, 'vnl', word), word) }),
  },
  gre: {
    keys: ['src', 'dst', 'v6', 'rx_key', 'tx_key', 'sequence', 'pin_sequence'],
    read: (values, word) => ({
      kind: 'gre',
      ...endsOf(values, word),
      receive_key: wordOf(values, 'rx_key', word),
      send_key: wordOf(values, 'tx_key', word),
      sequence: counterOf(values, 'sequence', 'pin_sequence', word),
    }),
  },
  l2tpv3: {
    keys: [
      ...['src', 'dst', 'v6', 'udp', 'srcport', 'dstport', 'rx_session', 'tx_session'],
      ...['rx_cookie', 'tx_cookie', 'cookie64', 'counter', 'pin_counter'],
    ],
    read: (values, word) => ({
      kind: 'l2tpv3',
      ...endsOf(values, word),
      ...portsOf(values, word),
      receive_session: wordOf(values, 'rx_session', word),
      send_session: wordOf(values, 'tx_session', word),
      receive_cookie: cookieOf(values, 'rx_cookie', word),
      send_cookie: cookieOf(values, 'tx_cookie', word),
      counter: counterOf(values, 'counter', 'pin_counter', word),
    }),
  },
  bess: {
    keys: ['src', 'dst'],
    read: (values, word) => ({
      kind: 'bess',
      socket: required(values, 'dst', word),
      local: values.get('src'),
    }),
  },
};
/** How UML moves frames, which is no matter of these. */
const WITHOUT_EFFECT = ['depth', 'gro', 'headroom', 'mtu', 'vec'];
const VNL = /^(?:vde:\/\/)?(\/[^[\]{}]+)$/;
const WORD_MAX = 0xffff_ffff;
const COOKIE_MAX = 0xffff_ffff_ffff_ffffn;

/** AppError `invalid_input` for what is no vector device, or has a transport or a setting that this machine has not. */
export function parseVector(word: string): Vector {
  const [, digits, settings = ''] = /^vec(\d{1,4})(?::(.*))?$/s.exec(word) ?? [];
  if (digits === undefined || settings === '') {
    throw wrong(word, "lacks its ':' after the device number", 'write vec0:transport=tap,ifname=tap0');
  }
  const values = new Map(settings.split(',').map((setting) => pairOf(setting, word)));
  const name = values.get('transport') ?? '';
  const kind = Object.hasOwn(KINDS, name) ? KINDS[name] : undefined;
  if (kind === undefined) {
    throw wrong(
      word,
      `has the transport ${JSON.stringify(name.slice(0, 40))}`,
      `use ${Object.keys(KINDS).join(', ')}, or eth0 with another one of UML's`,
    );
  }
  const keys = [...values.keys()];
  const known = ['transport', 'mac', ...kind.keys];
  const unknown = keys.find((key) => !known.includes(key) && !WITHOUT_EFFECT.includes(key));
  if (unknown !== undefined) {
    throw wrong(word, `has a setting ${unknown} that ${name} does not have here`, `use ${known.join(', ')}`);
  }
  const warnings = keys
    .filter((key) => WITHOUT_EFFECT.includes(key))
    .map((key) => `${key} of ${word} has no effect here`);
  const draft = { transport: kind.read(values, word), mac: values.get('mac'), warnings };
  return { unit: ethUnit(word, Number(digits)), eth: checkEth(word, draft) };
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

/** A number as C writes it; undefined where it is not given. */
function numberOf(values: Values, key: string, most: bigint, word: string): bigint | undefined {
  const text = values.get(key);
  if (text === undefined) return undefined;
  const value = /^(?:0x[0-9a-f]{1,16}|\d{1,20})$/i.test(text) ? BigInt(octal(text)) : most + 1n;
  if (value <= most) return value;
  throw wrong(word, `has a ${key} that is no number up to 0x${most.toString(16)}`, `write ${key}=1`);
}

/** As JavaScript writes numbers that begin with 0. */
const octal = (text: string): string => (/^0[0-7]+$/.test(text) ? `0o${text.slice(1)}` : text);

function wordOf(values: Values, key: string, word: string): number | undefined {
  const value = numberOf(values, key, BigInt(WORD_MAX), word);
  return value === undefined ? undefined : Number(value);
}

const isSet = (values: Values, key: string, word: string): boolean => (wordOf(values, key, word) ?? 0) > 0;

function endsOf(values: Values, word: string): { readonly local: string; readonly remote: string } {
  const [local, remote] = [required(values, 'src', word), required(values, 'dst', word)];
  if (isSet(values, 'v6', word) !== local.includes(':')) {
    const [family, remedy] = local.includes(':') ? ['IPv6', 'add v6=1'] : ['IPv4', 'leave v6 out'];
    throw wrong(word, `has addresses of ${family}`, remedy);
  }
  return { local, remote };
}

function portsOf(
  values: Values,
  word: string,
): { readonly local_port?: number; readonly remote_port?: number } {
  const ports = ['srcport', 'dstport'].map((key) => wordOf(values, key, word));
  if (!isSet(values, 'udp', word)) return {};
  const [local_port, remote_port] = ports;
  if (local_port !== undefined && remote_port !== undefined) return { local_port, remote_port };
  throw wrong(word, 'names no ports for UDP', 'add srcport=… and dstport=…');
}

/** In hexadecimal. */
function cookieOf(values: Values, key: string, word: string): string | undefined {
  const isLong = isSet(values, 'cookie64', word);
  const value = numberOf(values, key, isLong ? COOKIE_MAX : BigInt(WORD_MAX), word);
  return value?.toString(16).padStart(isLong ? 16 : 8, '0');
}

function counterOf(values: Values, key: string, pinned: string, word: string): 'none' | 'counts' | 'zero' {
  if (!isSet(values, key, word)) return 'none';
  return isSet(values, pinned, word) ? 'zero' : 'counts';
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
