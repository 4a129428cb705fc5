/** IPv6 addresses and prefixes, in text (RFC 4291 §2.2, RFC 5952) and as 16 bytes. */

/** Undefined when malformed. Without a zone. */
export function parseIp6(text: string): Uint8Array | undefined {
  const halves = text.split('::');
  if (halves.length > 2 || text.length > 45) return undefined;
  const [head, tail] = halves.map(parseGroups);
  if (head === undefined || (halves.length === 2 && tail === undefined)) return undefined;
  const missing = 8 - head.length - (tail?.length ?? 0);
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  const groups = [...head, ...Array<number>(halves.length === 1 ? 0 : missing).fill(0), ...(tail ?? [])];
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 255]));
}

function parseGroups(text: string): number[] | undefined {
  if (text === '') return [];
  const groups: number[] = [];
  for (const group of text.split(':')) {
    if (!/^[0-9a-f]{1,4}$/i.test(group)) return undefined;
    groups.push(Number.parseInt(group, 16));
  }
  return groups;
}

/** Lower case, the longest run of two or more zero groups as `::`. */
export function formatIp6(address: Uint8Array): string {
  const groups = Array.from({ length: 8 }, (_, i) => (address[2 * i]! << 8) | address[2 * i + 1]!);
  let best = { at: -1, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (at + length < 8 && groups[at + length] === 0) length++;
    if (length > best.length) best = { at, length };
  }
  const hex = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(':');
  if (best.at < 0) return hex(groups);
  return `${hex(groups.slice(0, best.at))}::${hex(groups.slice(best.at + best.length))}`;
}

export interface Prefix6 {
  /** 16 bytes. */
  readonly address: Uint8Array;
  readonly length: number;
}

/** `fd00:77::/64`; undefined when malformed or with bits behind the prefix. */
export function parsePrefix6(text: string): Prefix6 | undefined {
  const [addressText = '', lengthText = '', ...rest] = text.split('/');
  const address = parseIp6(addressText);
  if (address === undefined || rest.length > 0 || !/^[0-9]{1,3}$/.test(lengthText)) return undefined;
  const length = Number(lengthText);
  if (length > 128) return undefined;
  for (let bit = length; bit < 128; bit++)
    if ((address[bit >> 3]! & (0x80 >> (bit & 7))) !== 0) return undefined;
  return { address, length };
}

/** Whether the 16 bytes from `at` on are an address of the prefix. */
export function isInPrefix(bytes: Uint8Array, at: number, prefix: Prefix6): boolean {
  const whole = prefix.length >> 3;
  for (let i = 0; i < whole; i++) if (bytes[at + i] !== prefix.address[i]) return false;
  const mask = (0xff00 >> (prefix.length & 7)) & 0xff;
  return mask === 0 || ((bytes[at + whole]! ^ prefix.address[whole]!) & mask) === 0;
}

/** Interface identifier from a MAC address (RFC 4291, appendix A), behind the prefix's first 64 bits. */
export function eui64Address(prefix: Uint8Array, mac: Uint8Array): Uint8Array {
  const [a, b, c, d, e, f] = mac as unknown as [number, number, number, number, number, number];
  const address = new Uint8Array(16);
  address.set(prefix.subarray(0, 8));
  address.set([a ^ 2, b, c, 0xff, 0xfe, d, e, f], 8);
  return address;
}

/** fe80:: and the interface identifier. */
export function linkLocalAddress(mac: Uint8Array): Uint8Array {
  return eui64Address(Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0), mac);
}
