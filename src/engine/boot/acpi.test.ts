import { expect, test } from 'vitest';
import { testMemory } from '../machine/testing/test-board.ts';
import { writeAcpiTables } from './acpi.ts';
import * as aml from './aml.ts';

const memory = testMemory();
const rsdp = writeAcpiTables(memory, {
  cpus: 1,
  pciRoutes: [{ slot: 1, pin: 0, gsi: 17 }],
  pciSlots: [1, 31],
  pciWindow: { first: 0xc000_0000, last: 0xfebf_ffff },
});
const sum = (at: number, length: number): number =>
  memory.readable(at, length).reduce((total, byte) => (total + byte) & 0xff, 0);
const text = (at: number, length: number): string => String.fromCharCode(...memory.readable(at, length));

function tables(): Map<string, number> {
  const xsdt = memory.readU64(rsdp + 24);
  const count = (memory.readU32(xsdt + 4) - 36) / 8;
  const found = new Map<string, number>();
  for (let i = 0; i < count; i++) {
    const at = memory.readU64(xsdt + 36 + i * 8);
    found.set(text(at, 4), at);
  }
  found.set('DSDT', memory.readU32(found.get('FACP')! + 40));
  return found;
}

test('the root pointer is where guests search, on a 16-byte boundary, with both checksums', () => {
  expect(text(rsdp, 8)).toBe('RSD PTR ');
  expect(rsdp % 16).toBe(0);
  expect(sum(rsdp, 20)).toBe(0);
  expect(sum(rsdp, 36)).toBe(0);
});

test('every table has its length and a good checksum', () => {
  expect([...tables().keys()].sort()).toEqual(['APIC', 'DSDT', 'FACP', 'WDAT']);
  for (const at of tables().values()) expect(sum(at, memory.readU32(at + 4))).toBe(0);
});

test('the MADT lists one processor, the IOAPIC and where the timer is wired', () => {
  const at = tables().get('APIC')!;
  const bytes = memory.readable(at, memory.readU32(at + 4));
  const entries: number[][] = [];
  for (let i = 44; i < bytes.length; i += bytes[i + 1]!)
    entries.push([...bytes.subarray(i, i + bytes[i + 1]!)]);
  expect(entries.map(([type]) => type)).toEqual([0, 1, 2, 2, 4]);
  expect(entries[2]).toEqual([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
});

test('the DSDT has each slot that can be hot-plugged, and the method of their event', () => {
  const at = tables().get('DSDT')!;
  const names = text(at, memory.readU32(at + 4));
  for (const name of ['S01_', 'S1F_', '_EJ0', 'PCNT', '_GPE', '_E01']) expect(names).toContain(name);
  expect(names).not.toContain('S02_');
});

test('package lengths count themselves in one, two and three bytes', () => {
  expect(aml.scope('\\_SB').slice(0, 2)).toEqual([0x10, 6]);
  const middle = aml.scope('\\_SB', Array(100).fill(0xa3));
  expect(middle.slice(0, 3)).toEqual([0x10, 0x40 | (107 & 15), 107 >>> 4]);
  expect(middle).toHaveLength(1 + 107);
  const large = aml.scope('\\_SB', Array(5000).fill(0xa3));
  const length = 5000 + 5 + 3;
  expect(large.slice(0, 4)).toEqual([0x10, 0x80 | (length & 15), (length >>> 4) & 0xff, length >>> 12]);
});

test('terms are encoded as in the specification', () => {
  expect(aml.eisaId('PNP0A03')).toEqual([0x0c, 0x41, 0xd0, 0x0a, 0x03]);
  expect([0, 1, 0x7f, 0x1234, 0x1_0000].map((value) => aml.integer(value))).toEqual([
    [0],
    [1],
    [0x0a, 0x7f],
    [0x0b, 0x34, 0x12],
    [0x0c, 0, 0, 1, 0],
  ]);
  expect(aml.resources(aml.io(0x3f8, 8))).toEqual([
    0x11, 13, 0x0a, 10, 0x47, 1, 0xf8, 3, 0xf8, 3, 1, 8, 0x79, 0,
  ]);
});
