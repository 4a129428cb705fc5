/**
 * ACPI tables: ACPI specification 6.5. They describe the board of `machine/board.ts` and its fixed
 * devices; PCI functions are found by the guest.
 */
import { IOAPIC_BASE } from '../devices/apic/ioapic.ts';
import { LAPIC_BASE } from '../devices/apic/lapic.ts';
import { ACPI_PM, SCI_IRQ } from '../devices/isa/acpi-pm.ts';
import { FW_CFG_BYTES, FW_CFG_PORT } from '../devices/isa/fw-cfg.ts';
import { PVPANIC_PORT } from '../devices/isa/pvpanic.ts';
import { PCI_HOTPLUG } from '../devices/pci/index.ts';
import { UART_PORTS } from '../devices/isa/uart16550.ts';
import type { GuestMemory } from '../machine/guest-memory.ts';
import * as aml from './aml.ts';
import { LOW } from './memory-map.ts';
import { wdatBody } from './wdat.ts';

/** A legacy PCI interrupt: which global system interrupt a slot's pin (0 = INTA#) is wired to. */
export interface PciInterruptRoute {
  readonly slot: number;
  readonly pin: number;
  readonly gsi: number;
}

export interface AcpiOptions {
  readonly cpus: number;
  readonly pciRoutes: readonly PciInterruptRoute[];
  /** Slots that devices can be plugged into and taken out of while the guest runs. */
  readonly pciSlots: readonly number[];
  /** Physical addresses that PCI memory BARs may take. */
  readonly pciWindow: { readonly first: number; readonly last: number };
}

const OEM_ID = 'UMLAUT';
const TABLE_ALIGN = 16;

/** Writes all tables; returns the RSDP's physical address. */
export function writeAcpiTables(memory: GuestMemory, options: AcpiOptions): number {
  let next = LOW.ACPI + 64;
  const put = (bytes: Uint8Array): number => {
    const at = next;
    if (at + bytes.length > LOW.ACPI_END) throw new RangeError('the ACPI tables do not fit in their place');
    memory.write(at, bytes);
    next = Math.ceil((at + bytes.length) / TABLE_ALIGN) * TABLE_ALIGN;
    return at;
  };
  const facs = put(facsTable());
  const dsdt = put(table('DSDT', 2, Uint8Array.from(dsdtTerms(options))));
  const fadt = put(table('FACP', 5, fadtBody(facs, dsdt)));
  const madt = put(table('APIC', 4, madtBody(options.cpus)));
  const tables = [fadt, madt, put(table('WDAT', 1, wdatBody()))];
  const xsdt = put(table('XSDT', 1, new Uint8Array(BigUint64Array.from(tables, BigInt).buffer)));
  const rsdt = put(table('RSDT', 1, new Uint8Array(Uint32Array.from(tables).buffer)));
  memory.write(LOW.ACPI, rsdpStructure(rsdt, xsdt));
  return LOW.ACPI;
}

const setText = (bytes: Uint8Array, at: number, text: string): void => {
  for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i);
};

/** The byte that makes the sum of all zero. */
const checksum = (bytes: Uint8Array): number => -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;

function table(signature: string, revision: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(36 + body.length);
  const view = new DataView(bytes.buffer);
  setText(bytes, 0, signature);
  view.setUint32(4, bytes.length, true);
  bytes[8] = revision;
  setText(bytes, 10, OEM_ID);
  setText(bytes, 16, 'UMLAUTPC');
  view.setUint32(24, 1, true);
  setText(bytes, 28, 'UMLT');
  view.setUint32(32, 1, true);
  bytes.set(body, 36);
  bytes[9] = checksum(bytes);
  return bytes;
}

function rsdpStructure(rsdt: number, xsdt: number): Uint8Array {
  const bytes = new Uint8Array(36);
  const view = new DataView(bytes.buffer);
  setText(bytes, 0, 'RSD PTR ');
  setText(bytes, 9, OEM_ID);
  bytes[15] = 2;
  view.setUint32(16, rsdt, true);
  view.setUint32(20, bytes.length, true);
  view.setBigUint64(24, BigInt(xsdt), true);
  bytes[8] = checksum(bytes.subarray(0, 20));
  bytes[32] = checksum(bytes);
  return bytes;
}

function facsTable(): Uint8Array {
  const bytes = new Uint8Array(64);
  setText(bytes, 0, 'FACS');
  new DataView(bytes.buffer).setUint32(4, 64, true);
  bytes[32] = 2;
  return bytes;
}

/** FADT flags: WBINVD works, C1 works, no fixed sleep button, no fixed RTC event, reset register present. */
const FADT_FLAGS = (1 << 0) | (1 << 2) | (1 << 5) | (1 << 6) | (1 << 10);
/** IA-PC boot flags: legacy devices and an 8042 are there, no VGA to probe. */
const BOOT_ARCH = 0x0007;

/** The body of the FADT, so offsets are those of the specification minus 36. */
function fadtBody(facs: number, dsdt: number): Uint8Array {
  const bytes = new Uint8Array(276 - 36);
  const view = new DataView(bytes.buffer);
  const u32 = (offset: number, value: number): void => view.setUint32(offset - 36, value, true);
  const u16 = (offset: number, value: number): void => view.setUint16(offset - 36, value, true);
  const u8 = (offset: number, value: number): void => view.setUint8(offset - 36, value);
  /** Generic address structure in I/O space. */
  const gas = (offset: number, bits: number, access: number, port: number): void => {
    u8(offset, 1);
    u8(offset + 1, bits);
    u8(offset + 3, access);
    view.setBigUint64(offset + 4 - 36, BigInt(port), true);
  };
  u32(36, facs);
  u32(40, dsdt);
  u16(46, SCI_IRQ);
  // No SMI command port: the machine is always in ACPI mode.
  u32(56, ACPI_PM.EVENT);
  u32(64, ACPI_PM.CONTROL);
  u32(76, ACPI_PM.TIMER);
  u32(80, ACPI_PM.GPE0);
  u8(88, 4);
  u8(89, 2);
  u8(91, 4);
  u8(92, ACPI_PM.GPE0_BYTES);
  // C2 and C3 latencies above these say that the states do not exist.
  u16(96, 101);
  u16(98, 1001);
  u8(106, 0x0d);
  u8(108, 0x32);
  u16(109, BOOT_ARCH);
  u32(112, FADT_FLAGS);
  gas(116, 8, 1, ACPI_PM.RESET);
  u8(128, ACPI_PM.RESET_VALUE);
  view.setBigUint64(132 - 36, BigInt(facs), true);
  view.setBigUint64(140 - 36, BigInt(dsdt), true);
  gas(148, 32, 2, ACPI_PM.EVENT);
  gas(172, 16, 2, ACPI_PM.CONTROL);
  gas(208, 32, 3, ACPI_PM.TIMER);
  gas(220, ACPI_PM.GPE0_BYTES * 8, 1, ACPI_PM.GPE0);
  return bytes;
}

const LEVEL_HIGH = 0x0d;

function madtBody(cpus: number): Uint8Array {
  const bytes: number[] = [];
  const u32 = (value: number): number[] => [
    value & 0xff,
    (value >>> 8) & 0xff,
    (value >>> 16) & 0xff,
    value >>> 24,
  ];
  // PC-AT compatible: there are 8259s, too.
  bytes.push(...u32(LAPIC_BASE), ...u32(1));
  for (let cpu = 0; cpu < cpus; cpu++) bytes.push(0, 8, cpu, cpu, ...u32(1));
  bytes.push(1, 12, cpus, 0, ...u32(IOAPIC_BASE), ...u32(0));
  bytes.push(2, 10, 0, 0, ...u32(2), 0, 0);
  bytes.push(2, 10, 0, SCI_IRQ, ...u32(SCI_IRQ), LEVEL_HIGH, 0);
  // LINT1 is the NMI of every processor.
  bytes.push(4, 6, 0xff, 0, 0, 1);
  return Uint8Array.from(bytes);
}

function dsdtTerms(options: AcpiOptions): aml.Aml {
  const isa = (name: string, id: string, ...resources: aml.Aml[]): aml.Aml =>
    aml.device(name, aml.name('_HID', aml.eisaId(id)), aml.name('_CRS', aml.resources(...resources)));
  const serials = UART_PORTS.map(({ base, irq }, index) =>
    aml.device(
      `COM${index + 1}`,
      aml.name('_HID', aml.eisaId('PNP0501')),
      aml.name('_UID', aml.integer(index + 1)),
      aml.name('_CRS', aml.resources(aml.io(base, 8), aml.irqNoFlags(irq))),
    ),
  );
  const fwCfg = aml.device(
    'FWCF',
    aml.name('_HID', aml.string('QEMU0002')),
    aml.name('_STA', aml.integer(0x0b)),
    aml.name('_CRS', aml.resources(aml.io(FW_CFG_PORT, FW_CFG_BYTES))),
  );
  const pvPanic = aml.device(
    'PEVT',
    aml.name('_HID', aml.string('QEMU0001')),
    aml.name('_STA', aml.integer(0x0f)),
    aml.name('_CRS', aml.resources(aml.io(PVPANIC_PORT, 1))),
  );
  return [
    ...aml.name('\\_S5', aml.packageOf(aml.integer(0), aml.integer(0), aml.integer(0), aml.integer(0))),
    ...aml.scope(
      '\\_SB',
      pciHost(options),
      isa('RTC', 'PNP0B00', aml.io(0x70, 2), aml.irqNoFlags(8)),
      isa('KBD', 'PNP0303', aml.io(0x60, 1), aml.io(0x64, 1), aml.irqNoFlags(1)),
      ...serials,
      fwCfg,
      pvPanic,
    ),
    ...gpeMethod(),
  ];
}

/** Values of Notify: look at the device; let go of it. */
const DEVICE_CHECK = 1;
const EJECT_REQUEST = 3;

const slotName = (slot: number): string => `S${slot.toString(16).toUpperCase().padStart(2, '0')}_`;

/** The slots' devices and the methods that tell the guest of changes in them. */
function hotplugTerms(slots: readonly number[]): aml.Aml[] {
  const mask = (slot: number): aml.Aml => aml.integer(2 ** slot);
  const devices = slots.map((slot) =>
    aml.device(
      slotName(slot),
      aml.name('_ADR', aml.integer(slot * 0x1_0000)),
      aml.name('_SUN', aml.integer(slot)),
      aml.method('_EJ0', 1, aml.store(mask(slot), aml.named('PEJT'))),
    ),
  );
  const tell = (register: string, local: aml.Aml, value: number): aml.Aml[] => [
    aml.store(aml.named(register), local),
    ...slots.map((slot) => aml.when(aml.and(local, mask(slot)), aml.notify(slotName(slot), value))),
  ];
  return [
    aml.dwordRegister('PHPR', PCI_HOTPLUG.BASE, ['PADD', 'PREM', 'PEJT']),
    ...devices,
    aml.method(
      'PCNT',
      0,
      ...tell('PADD', aml.local(0), DEVICE_CHECK),
      ...tell('PREM', aml.local(1), EJECT_REQUEST),
    ),
  ];
}

const gpeMethod = (): aml.Aml => {
  const level = PCI_HOTPLUG.GPE.toString(16).toUpperCase().padStart(2, '0');
  return aml.scope('\\_GPE', aml.method(`_E${level}`, 0, aml.named('\\_SB.PCI0.PCNT')));
};

function pciHost({ pciRoutes, pciWindow, pciSlots }: AcpiOptions): aml.Aml {
  const routes = pciRoutes.map(({ slot, pin, gsi }) =>
    aml.packageOf(aml.integer(slot * 0x1_0000 + 0xffff), aml.integer(pin), aml.integer(0), aml.integer(gsi)),
  );
  return aml.device(
    'PCI0',
    aml.name('_HID', aml.eisaId('PNP0A03')),
    aml.name('_ADR', aml.integer(0)),
    aml.name('_UID', aml.integer(0)),
    aml.name(
      '_CRS',
      aml.resources(
        aml.window(aml.SPACE.BUS, 2, 0, 0),
        aml.io(0xcf8, 8),
        aml.window(aml.SPACE.IO, 2, 0, 0xcf7),
        aml.window(aml.SPACE.IO, 2, 0xd00, 0xffff),
        aml.window(aml.SPACE.MEMORY, 4, pciWindow.first, pciWindow.last),
      ),
    ),
    aml.name('_PRT', aml.packageOf(...routes)),
    ...hotplugTerms(pciSlots),
  );
}
