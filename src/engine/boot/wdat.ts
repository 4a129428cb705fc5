/** The body of ACPI's Watchdog Action Table: which register of `devices/isa/watchdog.ts` is what. */
import { WATCHDOG, WATCHDOG_COUNT_MAX, WATCHDOG_PERIOD_MS, WATCHDOG_PORT } from '../devices/isa/watchdog.ts';

const HEADER_BYTES = 32;
const ENTRY_BYTES = 24;
/** The watchdog is no PCI function. */
const NO_PCI = 0xff;
const ENABLED = 1;
const IO_SPACE = 1;
/** Accesses of 32 bits, in the generic address structure's code. */
const DWORD_ACCESS = 3;
const ACTION = {
  RESET: 1,
  GET_CURRENT_COUNTDOWN: 4,
  GET_COUNTDOWN: 5,
  SET_COUNTDOWN: 6,
  GET_RUNNING: 8,
  SET_RUNNING: 9,
  GET_STOPPED: 10,
  SET_STOPPED: 11,
} as const;
const INSTRUCTION = { READ_VALUE: 0, READ_COUNTDOWN: 1, WRITE_VALUE: 2, WRITE_COUNTDOWN: 3 } as const;

/** Action, instruction, register, and the value that is compared or written. */
const ENTRIES = [
  [ACTION.RESET, INSTRUCTION.WRITE_VALUE, WATCHDOG.RESET, 1],
  [ACTION.GET_CURRENT_COUNTDOWN, INSTRUCTION.READ_COUNTDOWN, WATCHDOG.LEFT, 0],
  [ACTION.GET_COUNTDOWN, INSTRUCTION.READ_COUNTDOWN, WATCHDOG.COUNT, 0],
  [ACTION.SET_COUNTDOWN, INSTRUCTION.WRITE_COUNTDOWN, WATCHDOG.COUNT, 0],
  [ACTION.GET_RUNNING, INSTRUCTION.READ_VALUE, WATCHDOG.STATE, 1],
  [ACTION.SET_RUNNING, INSTRUCTION.WRITE_VALUE, WATCHDOG.STATE, 1],
  [ACTION.GET_STOPPED, INSTRUCTION.READ_VALUE, WATCHDOG.STATE, 0],
  [ACTION.SET_STOPPED, INSTRUCTION.WRITE_VALUE, WATCHDOG.STATE, 0],
] as const;

export function wdatBody(): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + ENTRIES.length * ENTRY_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, HEADER_BYTES, true);
  view.setUint16(4, NO_PCI, true);
  bytes.fill(NO_PCI, 6, 9);
  view.setUint32(12, WATCHDOG_PERIOD_MS, true);
  view.setUint32(16, WATCHDOG_COUNT_MAX, true);
  view.setUint32(20, 1, true);
  view.setUint8(24, ENABLED);
  view.setUint32(28, ENTRIES.length, true);
  for (const [index, [action, instruction, register, value]] of ENTRIES.entries()) {
    const at = HEADER_BYTES + index * ENTRY_BYTES;
    view.setUint8(at, action);
    view.setUint8(at + 1, instruction);
    view.setUint8(at + 4, IO_SPACE);
    view.setUint8(at + 5, 32);
    view.setUint8(at + 7, DWORD_ACCESS);
    view.setBigUint64(at + 8, BigInt(WATCHDOG_PORT + register), true);
    view.setUint32(at + 16, value, true);
    view.setUint32(at + 20, 0xffff_ffff, true);
  }
  return bytes;
}
