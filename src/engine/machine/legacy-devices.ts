/** The PC's fixed devices: plugged into every machine, found by guests without a bus to enumerate. */
import type { CharPort } from '../backends.ts';
import { AcpiPm } from '../devices/isa/acpi-pm.ts';
import { debugExit } from '../devices/isa/debug-exit.ts';
import { FwCfg } from '../devices/isa/fw-cfg.ts';
import { I8042 } from '../devices/isa/i8042.ts';
import { Pit } from '../devices/isa/pit.ts';
import { Rtc } from '../devices/isa/rtc.ts';
import { PvPanic } from '../devices/isa/pvpanic.ts';
import { UART_PORTS, Uart16550 } from '../devices/isa/uart16550.ts';
import { Watchdog } from '../devices/isa/watchdog.ts';
import type { Mainboard } from './board.ts';
import type { Device } from './bus.ts';

export interface LegacyDevices {
  readonly acpi: AcpiPm;
  readonly keyboard: I8042;
  readonly fwCfg: FwCfg;
  /** ttyS0…ttyS3. */
  readonly serials: readonly Uart16550[];
  /** All of them, for reset. */
  readonly all: readonly Device[];
}

/** A serial port with nothing plugged in. */
const UNPLUGGED: CharPort = { output() {}, input: () => new Uint8Array(0), onReadable() {} };

export interface LegacyOptions {
  /** What ttyS0… are connected to; a missing one is not connected. */
  readonly serials: readonly CharPort[];
  /** I/O port of an isa-debug-exit device. */
  readonly debugExitPort?: number | undefined;
}

/** Plugs the devices in. Throws RangeError when the debug-exit port is another device's. */
export function plugLegacyDevices(board: Mainboard, options: LegacyOptions): LegacyDevices {
  const acpi = new AcpiPm(board, (port, region) => board.ports.mapByte(port, region));
  const keyboard = new I8042(board);
  const fwCfg = new FwCfg(board);
  const serials = UART_PORTS.map(({ base, irq }, index) => {
    const line = board.interrupts.sharedLine(irq);
    return new Uart16550(board, `ttyS${index}`, base, line, options.serials[index] ?? UNPLUGGED);
  });
  const all: Device[] = [
    new Pit(board),
    new Rtc(board, board.memory.ramBytes),
    acpi,
    keyboard,
    fwCfg,
    new PvPanic(board),
    new Watchdog(board),
    ...serials,
  ];
  if (options.debugExitPort !== undefined) all.push(debugExit(board, options.debugExitPort));
  return { acpi, keyboard, fwCfg, serials, all };
}
