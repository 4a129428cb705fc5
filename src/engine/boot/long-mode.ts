/** What code needs that is entered in 64-bit mode: a GDT and page tables that map the low 4 GiB 1:1. */
import type { GuestMemory } from '../machine/guest-memory.ts';
import { LOW } from './memory-map.ts';

const PRESENT_WRITABLE = 3n;
const LARGE = 0x80n;
const PAGE = 0x1000;

/** Flat descriptors at selectors 0x10 (64-bit code) and 0x18 (data), as the Linux boot protocol wants. */
const GDT = [0n, 0n, 0x00af_9b00_0000_ffffn, 0x00cf_9300_0000_ffffn] as const;

export const GDT_LIMIT = GDT.length * 8 - 1;

export function writeGdt(memory: GuestMemory): void {
  const bytes = new BigUint64Array(GDT);
  memory.write(LOW.GDT, new Uint8Array(bytes.buffer));
}

/** Writes the page tables; the top level is at LOW.PAGE_TABLES. */
export function writeIdentityPageTables(memory: GuestMemory): void {
  const tables = new BigUint64Array(LOW.PAGE_TABLES_BYTES / 8);
  const base = BigInt(LOW.PAGE_TABLES);
  tables[0] = (base + BigInt(PAGE)) | PRESENT_WRITABLE;
  for (let gibibyte = 0; gibibyte < 4; gibibyte++) {
    tables[512 + gibibyte] = (base + BigInt((2 + gibibyte) * PAGE)) | PRESENT_WRITABLE;
  }
  for (let i = 0; i < 2048; i++) tables[1024 + i] = (BigInt(i) << 21n) | PRESENT_WRITABLE | LARGE;
  memory.write(LOW.PAGE_TABLES, new Uint8Array(tables.buffer));
}
