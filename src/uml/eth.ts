/** UML's network devices: `eth<n>=<transport>[,<argument>…]` (arch/um/drivers/net_kern.c and the transports' own files). */
import { checkTransport, type Transport } from '../contracts/api/transport.ts';
import { wrong } from './wrong.ts';

export const ETH_MAX = 8;
/** Where Debian's kernel looks for uml_switch. */
const SWITCH_SOCKET = '/var/run/uml-utilities/uml_switch.ctl';
const VDE_FOLDER = '/var/run/vde.ctl';

/** A network card with a transport of its own. */
export interface TransportCard {
  readonly transport: Transport;
  /** `aa:bb:cc:dd:ee:ff`; undefined: one is to be made up. */
  readonly mac: string | undefined;
}

export interface Eth extends TransportCard {
  readonly warnings: readonly string[];
}

export interface EthDraft {
  readonly transport: unknown;
  readonly mac?: string | undefined;
  readonly warnings?: readonly string[];
}

/** The fields behind a transport's name; missing ones are empty. */
type Reader = (fields: readonly string[], word: string) => EthDraft;

const TRANSPORTS: Readonly<Record<string, Reader>> = {
  tuntap: ([device = '', mac, hostAddress], word) => {
    if (device === '') throw wrong(word, 'names no device', 'make one with `umlaut tap create` and name it');
    const warnings = hostAddress ? [noAddress(word)] : [];
    return { transport: { kind: 'tuntap', device }, mac, warnings };
  },
  ethertap: (_fields, word) => {
    throw wrong(word, 'is for hosts with Linux 2.2 to 2.4', 'use tuntap: eth0=tuntap,tap0');
  },
  daemon: ([mac, type, socket, dataSocket], word) => {
    if (type && type !== 'unix') throw wrong(word, `has the socket type ${type}`, 'use unix, the only one');
    const warnings = dataSocket ? [`the data socket of ${word} is not needed: the switch tells its own`] : [];
    return { transport: { kind: 'daemon', socket: socket || SWITCH_SOCKET }, mac, warnings };
  },
  mcast: ([mac, group, port, ttl]) => {
    const transport = { kind: 'mcast', group: group || undefined, port: number(port), ttl: number(ttl) };
    return { transport, mac };
  },
  ucast: ([mac, remote, localPort, remotePort]) => {
    const ports = { local_port: number(localPort), remote_port: number(remotePort) };
    return { transport: { kind: 'ucast', remote, ...ports }, mac };
  },
  slip: ([hostAddress], word) => ({
    transport: { kind: 'slip' },
    warnings: hostAddress ? [noAddress(word)] : [],
  }),
  slirp: ([mac, program], word) => {
    const warnings = program ? [`${word} runs no program: user-mode NAT is built in`] : [];
    return { transport: { kind: 'nat' }, mac, warnings };
  },
  pcap: ([device, filter, first, second, mac], word) => {
    const options = [first, second].filter((option) => option);
    const known = ['promisc', 'nopromisc', 'optimize', 'nooptimize'];
    const odd = options.find((option) => !known.includes(option!));
    if (odd !== undefined) throw wrong(word, `has the option ${odd}`, `use ${known.join(', ')}`);
    const promiscuous = !options.includes('nopromisc');
    return {
      transport: { kind: 'pcap', interface: device || 'eth0', filter: filter ?? '', promiscuous },
      mac,
    };
  },
  vde: ([folder, mac, port, group, mode, description]) => ({
    transport: {
      kind: 'vde',
      folder: folder || VDE_FOLDER,
      port: number(port),
      description: description || 'UML vde_transport',
    },
    mac,
    // They are for the folder that libvdeplug would make for a switch of its own.
    warnings: group || mode ? ['a VDE switch is joined as it is: group and mode have no effect'] : [],
  }),
};

/** Is it the name of one of UML's transports? */
export function isEthTransport(kind: string): boolean {
  return Object.hasOwn(TRANSPORTS, kind);
}

/** `name`: what is between `eth` and the `=`. Throws AppError `invalid_input`, in UML's words where it has any. */
export function parseEth(word: string, name: string, value: string): { unit: number; eth: Eth } {
  if (!/^\d{1,4}$/.test(name)) throw wrong(word, 'has a bad device number', `use eth0 to eth${ETH_MAX - 1}`);
  const unit = ethUnit(word, Number(name));
  const [kind = '', ...fields] = value.split(',');
  const read = Object.hasOwn(TRANSPORTS, kind) ? TRANSPORTS[kind] : undefined;
  if (read === undefined) {
    const names = Object.keys(TRANSPORTS).filter((known) => known !== 'ethertap');
    throw wrong(word, `has no transport of UML`, `use ${names.join(', ')}`);
  }
  return { unit, eth: checkEth(word, read(fields, word)) };
}

export function ethUnit(word: string, unit: number): number {
  if (unit < ETH_MAX) return unit;
  throw wrong(word, 'has a device number out of range', `use eth0 to eth${ETH_MAX - 1}`);
}

/** Throws AppError `invalid_input`. */
export function checkEth(word: string, { transport, mac, warnings = [] }: EthDraft): Eth {
  const address = readMac(word, mac);
  return {
    transport: checkTransport(transport, word.slice(0, 80)),
    mac: address.mac,
    warnings: [...warnings, ...address.warnings],
  };
}

/** As UML: what cannot be a station's address is replaced by one that is made up, with a message. */
function readMac(word: string, text: string | undefined): { mac: string | undefined; warnings: string[] } {
  if (!text) return { mac: undefined, warnings: [] };
  const mac = text.toLowerCase();
  const isStation = /^([0-9a-f]{1,2}:){5}[0-9a-f]{1,2}$/.test(mac) && !/^(0{1,2}:){5}0{1,2}$/.test(mac);
  if (!isStation || (Number.parseInt(mac, 16) & 1) !== 0) {
    return { mac: undefined, warnings: [`${text} of ${word} is no station's MAC address: one is made up`] };
  }
  const bytes = mac.split(':').map((byte) => byte.padStart(2, '0'));
  return { mac: bytes.join(':'), warnings: [] };
}

function number(text: string | undefined): number | undefined {
  return text ? Number(text) : undefined;
}

function noAddress(word: string): string {
  return `the address in ${word} has no effect: give the host's end its address on the host`;
}
