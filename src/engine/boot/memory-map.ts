/** What lies where in guest physical memory at boot, and the E820 map that tells the guest. */
import { HIGH_RAM, LOW_RAM_MAX } from '../layout.ts';

/** Fixed places below 1 MiB that the boot loaders fill. */
export const LOW = {
  /** struct boot_params (Linux), or start info (PVH, multiboot). */
  BOOT_PARAMS: 0x7000,
  GDT: 0x8000,
  /** Level 4, level 3, then four level 2 tables: maps 4 GiB 1:1. */
  PAGE_TABLES: 0x9000,
  PAGE_TABLES_BYTES: 0x6000,
  SETUP_DATA: 0xf000,
  COMMAND_LINE: 0x2_0000,
  COMMAND_LINE_MAX: 0x1_0000,
  /** End of conventional memory; the extended BIOS data area and VGA follow. */
  CONVENTIONAL_END: 0x9_fc00,
  /** ACPI tables and the RSDP, in the range that guests search. */
  ACPI: 0xe_0000,
  ACPI_END: 0x10_0000,
  EXTENDED: 0x10_0000,
} as const;

export const E820 = { RAM: 1, RESERVED: 2, ACPI: 3 } as const;

export interface E820Entry {
  readonly base: number;
  readonly length: number;
  readonly type: number;
}

/** The memory map of a machine with `ramBytes` of RAM. */
export function e820(ramBytes: number): E820Entry[] {
  const low = Math.min(ramBytes, LOW_RAM_MAX);
  const entries: E820Entry[] = [
    { base: 0, length: LOW.CONVENTIONAL_END, type: E820.RAM },
    { base: LOW.CONVENTIONAL_END, length: 0xa_0000 - LOW.CONVENTIONAL_END, type: E820.RESERVED },
    { base: LOW.ACPI, length: LOW.ACPI_END - LOW.ACPI, type: E820.RESERVED },
    { base: LOW.EXTENDED, length: low - LOW.EXTENDED, type: E820.RAM },
    // Local APIC, IOAPIC and the place of a BIOS ROM.
    { base: 0xfec0_0000, length: 0x140_0000, type: E820.RESERVED },
  ];
  if (ramBytes > low) entries.push({ base: HIGH_RAM, length: ramBytes - low, type: E820.RAM });
  return entries;
}

/** End of the RAM that boot loaders may use: below the PCI hole. */
export const lowRamEnd = (ramBytes: number): number => Math.min(ramBytes, LOW_RAM_MAX);

/** Highest page-aligned place below `limit` where `length` bytes fit at or above `floor`, -1 if none. */
export function placeHigh(length: number, floor: number, limit: number): number {
  const at = Math.floor((limit - length) / 4096) * 4096;
  return at >= floor ? at : -1;
}
