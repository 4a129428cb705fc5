import { createHash, randomBytes } from 'node:crypto';

export type IdPrefix =
  | 'vm'
  | 'disk'
  | 'net'
  | 'bak'
  | 'snap'
  | 'dst'
  | 'sched'
  | 'op'
  | 'tok'
  | 'layer'
  | 'fw'
  | 'fwd'
  | 'up';

/** 64 random bits behind a prefix that says what it is. Never a valid guess, never used again. */
export function newId(prefix: IdPrefix): string {
  return `${prefix}-${randomBytes(8).toString('hex')}`;
}

/** A locally administered unicast address (IEEE 802 bits), the same for the same VM and device. */
export function macFor(vmId: string, device: string): string {
  const hash = createHash('sha256').update(`${vmId} ${device}`).digest();
  const bytes = [0x02, 0x75, 0x6d, hash[0]!, hash[1]!, hash[2]!];
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

const ADJECTIVES = [
  'brisk',
  'calm',
  'clear',
  'deft',
  'fair',
  'keen',
  'light',
  'plain',
  'quick',
  'sound',
  'spare',
  'still',
];
const NOUNS = [
  'alder',
  'birch',
  'brook',
  'cedar',
  'elm',
  'fern',
  'hazel',
  'heath',
  'larch',
  'linden',
  'rowan',
  'sorrel',
];

/** A name for somebody who did not give one: a DNS label with 32 random bits. */
export function madeUpName(): string {
  const bytes = randomBytes(6);
  const adjective = ADJECTIVES[bytes[0]! % ADJECTIVES.length];
  const noun = NOUNS[bytes[1]! % NOUNS.length];
  return `${adjective}-${noun}-${bytes.subarray(2).toString('hex')}`;
}
