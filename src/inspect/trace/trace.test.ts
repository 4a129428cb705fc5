/** What trace points put down of a guest's memory, laid out by hand, and the records that are made of it. */
import { describe, expect, it } from 'vitest';
import type { TraceRecord } from '../../contracts/ports.ts';
import type { MachineInspection } from '../../engine/inspection.ts';
import { Capture, keyOf, SEEN } from './capture.ts';
import { TraceDecoder } from './decoder.ts';
import { GuestWords } from './guest-words.ts';

const RAM_BYTES = 8 << 20;
const TABLE = { pml4: 0x1000, pdpt: 0x2000, pd: 0x3000, pt: 0x4000 } as const;
const PRESENT = 1n;
const LARGE = 0x80n;
const DIRECT_MAP = 0xffff_9a40_c000_0000n;
/** The first entries of all tables lead to it, and the last page of what they map has its last entry. */
const LINEAR = 0x7f80_0000_0000n;

function guestWords(): { readonly guest: GuestWords; readonly ram: Buffer } {
  const ram = Buffer.alloc(RAM_BYTES);
  const entry = (table: number, index: number, value: bigint): void =>
    void ram.writeBigUInt64LE(value, table + index * 8);
  entry(TABLE.pml4, 0xff, BigInt(TABLE.pdpt) | PRESENT);
  entry(TABLE.pdpt, 0, BigInt(TABLE.pd) | PRESENT);
  entry(TABLE.pd, 0, BigInt(TABLE.pt) | PRESENT);
  entry(TABLE.pd, 1, 0x40_0000n | LARGE | PRESENT);
  entry(TABLE.pt, 0, 0x10_0000n | PRESENT);
  entry(TABLE.pt, 1, 0x20_0000n | PRESENT | (1n << 63n));
  // Behind it nothing is mapped, and then something that is no RAM.
  entry(TABLE.pt, 3, 0x7000_0000n | PRESENT);
  const view = {
    ram,
    pageTables: TABLE.pml4,
    ramOffset: (physical: number, length: number) =>
      physical >= 0 && physical + length <= RAM_BYTES ? physical : -1,
  } as unknown as MachineInspection;
  return { guest: new GuestWords(view, DIRECT_MAP), ram };
}

const words = (address: bigint): [high: number, low: number] => [
  Number(address >> 32n),
  Number(address & 0xffff_ffffn),
];

describe('a guest is read', () => {
  it('as its CPU reads it', () => {
    const { guest } = guestWords();
    const at = (address: bigint, bytes: number): number => guest.at(...words(address), bytes);
    expect(at(LINEAR + 0x123n, 4)).toBe(0x10_0123);
    expect(at(LINEAR + 0x1ffcn, 4)).toBe(0x20_0ffc);
    expect(at(LINEAR + 0x20_3004n, 8)).toBe(0x40_3004);
    // In two pages, in none, in one that is not RAM, in a table that is not there.
    expect(at(LINEAR + 0xffdn, 4)).toBe(-1);
    expect(at(LINEAR + 0x2000n, 1)).toBe(-1);
    expect(at(LINEAR + 0x3000n, 1)).toBe(-1);
    expect(at(LINEAR + 0x4000_0000n, 1)).toBe(-1);
    expect(at(0n, 1)).toBe(-1);
  });

  it("by the kernel's map of all memory", () => {
    const { guest } = guestWords();
    const at = (address: bigint, bytes: number): number => guest.at(...words(address), bytes);
    expect(at(DIRECT_MAP, 8)).toBe(0);
    expect(at(DIRECT_MAP + 0x12_3ff0n, 10_000)).toBe(0x12_3ff0);
    expect(at(DIRECT_MAP + BigInt(RAM_BYTES) - 4n, 8)).toBe(-1);
    expect(at(DIRECT_MAP - 8n, 8)).toBe(-1);
  });

  it('behind an address, with a carry', () => {
    const { guest, ram } = guestWords();
    // Low word 0xffff_f000 and 0x1004 make one more in the high word.
    expect(guest.behind(...words(LINEAR - 0x1000n), 0x1004, 4)).toBe(0x10_0004);
    ram.writeBigUInt64LE(LINEAR - 0x1000n, 0x30_0000);
    expect(guest.pointed(0x30_0000, 0x1008, 4)).toBe(0x10_0008);
  });
});

/** Of process 7, at time 5. */
function putWho(capture: Capture): void {
  capture.number(5);
  for (const word of [7, 1, 1000, 0]) capture.word(word);
  capture.copy(Buffer.from('sh'.padEnd(16, '\0')), 0, 16);
}

const WHO = { time: 5, pid: 7, ppid: 1, uid: 1000, euid: 0, comm: 'sh' } as const;

function setUp() {
  const { guest, ram } = guestWords();
  const seen: boolean[] = [];
  const capture = new Capture((isUrgent) => seen.push(isUrgent));
  const records: TraceRecord[] = [];
  const decoder = new TraceDecoder((record) => void records.push(record));
  /** What has come since the last time. */
  const taken = (): TraceRecord[] => {
    decoder.decode(capture.take());
    return records.splice(0);
  };
  const open = (key: number, path: bigint, returns = true): void => {
    capture.begin(SEEN.OPEN);
    capture.number(key);
    capture.byte(returns ? 1 : 0);
    putWho(capture);
    capture.word(0x8000);
    capture.open();
    capture.text(guest, ...words(path), 4096);
    capture.close();
    capture.end();
  };
  const opened = (key: number, error: number, getsDescriptor: boolean, file: number): void => {
    capture.begin(SEEN.OPENED);
    capture.number(key);
    capture.word(error);
    capture.byte(getsDescriptor ? 1 : 0);
    capture.number(file);
    capture.end();
  };
  const installed = (file: number, descriptor: number): void => {
    capture.begin(SEEN.INSTALLED);
    capture.number(file);
    capture.word(descriptor);
    capture.end();
  };
  return { guest, ram, capture, taken, seen, open, opened, installed };
}

describe('what is put down', () => {
  it('becomes records when calls return', () => {
    const { ram, taken, open, opened, installed } = setUp();
    ram.write('/etc/passwd\0behind it', 0x10_0010);
    const opens = { ...WHO, kind: 'open', flags: 0x8000, path: '/etc/passwd' } as const;
    open(1, LINEAR + 0x10n);
    expect(taken()).toEqual([]);
    opened(1, 0, true, 77);
    installed(78, 9);
    expect(taken()).toEqual([]);
    installed(77, 3);
    expect(taken()).toEqual([{ ...opens, result: 3 }]);
    // A failure, and a file that the kernel keeps; a return that belongs to nothing.
    open(2, LINEAR + 0x10n);
    opened(2, -13, true, 0);
    open(3, LINEAR + 0x10n);
    opened(3, 0, false, 80);
    opened(3, 0, false, 80);
    expect(taken()).toEqual([{ ...opens, result: -13 }, opens]);
    // Not known where it returns to; and one that has not returned where that could be seen.
    open(4, LINEAR + 0x10n, false);
    open(5, LINEAR + 0x10n);
    open(5, LINEAR + 0x10n);
    expect(taken()).toEqual([opens, opens]);
  });

  it('has texts of several pages, as far as they are mapped', () => {
    const { ram, taken, open } = setUp();
    ram.write('/long', 0x10_0ffb);
    ram.write('er\0', 0x20_0000);
    open(1, LINEAR + 0xffbn, false);
    ram.fill('x', 0x20_0100, 0x20_1000);
    open(2, LINEAR + 0x1100n, false);
    open(3, LINEAR + 0x2000n, false);
    expect(taken().map(({ path }) => path)).toEqual(['/longer', 'x'.repeat(0xf00), '']);
  });

  it('has programs with their arguments, 256 at most', () => {
    const { capture, taken } = setUp();
    const many = Buffer.from('a\0'.repeat(300));
    capture.begin(SEEN.EXEC);
    capture.word(-2);
    putWho(capture);
    for (const field of [Buffer.from('/bin/nothing'), many]) {
      capture.open();
      capture.copy(field, 0, field.length);
      capture.close();
    }
    capture.end();
    const path = '/bin/nothing';
    expect(taken()).toEqual([{ ...WHO, kind: 'exec', path, arguments: Array(256).fill('a'), result: -2 }]);
  });

  it('is given up where it cannot be read, and dropped where there is no room', () => {
    const { capture, taken, seen, open } = setUp();
    capture.begin(SEEN.EXEC);
    capture.word(1);
    capture.giveUp();
    expect(seen).toEqual([]);
    for (let n = 0; n < 20_000; n++) open(n, LINEAR, false);
    expect(seen).toEqual([false, true]);
    const records = taken();
    expect(capture.dropped).toBe(20_000 - records.length);
    expect(records.length).toBeGreaterThan(1000);
    expect(records.at(-1)).toEqual({ ...WHO, kind: 'open', flags: 0x8000, path: '' });
    open(1, LINEAR, false);
    expect(seen).toEqual([false, true, false]);
    expect(taken()).toHaveLength(1);
  });
});

it('keys tell addresses of a kernel apart', () => {
  const addresses = [
    0xffff_c900_0012_3e48n,
    0xffff_c900_0012_3e50n,
    0xffff_8880_0012_3e48n,
    0xffff_c901_0012_3e48n,
  ];
  expect(new Set(addresses.map((address) => keyOf(...words(address)))).size).toBe(addresses.length);
});
