/** A machine as it is seen from outside. */
import { type MachineInspection, type MachineIntervention, REGISTER } from '../inspection.ts';
import { STATE } from '../layout.ts';
import type { GuestMemory } from './guest-memory.ts';

const GS = 5;
const GENERAL_REGISTERS = 16;
/** Of CR3, what is an address. */
const FRAME_LOW = 0xffff_f000;
const FRAME_HIGH = 0x000f_ffff;
const { RDI, RDX, RSI, RSP } = REGISTER;

/** @param state the CPU's, see STATE */
export function viewOf(memory: GuestMemory, state: DataView, tsc: () => number): MachineInspection {
  const u64 = (offset: number): bigint => state.getBigUint64(offset, true);
  return {
    ram: new Uint8Array(memory.shared.buffer, memory.base, memory.ramBytes),
    ramOffset: (physical, length) => memory.ramOffset(physical, length),
    get cr3() {
      return u64(STATE.CR3);
    },
    get pageTables() {
      return (
        (state.getUint32(STATE.CR3 + 4, true) & FRAME_HIGH) * 2 ** 32 +
        ((state.getUint32(STATE.CR3, true) & FRAME_LOW) >>> 0)
      );
    },
    get lstar() {
      return u64(STATE.LSTAR);
    },
    get rsp() {
      return u64(STATE.REGS + RSP * 8);
    },
    get arguments() {
      return [RDI, RSI, RDX].map((register) => u64(STATE.REGS + register * 8)) as [bigint, bigint, bigint];
    },
    get rip() {
      return u64(STATE.RIP);
    },
    get gsBase() {
      return u64(STATE.SEG_BASE + GS * 8);
    },
    get kernelGsBase() {
      return u64(STATE.KERNEL_GS_BASE);
    },
    get cpl() {
      return state.getUint32(STATE.CPL, true);
    },
    get tsc() {
      return BigInt.asUintN(64, BigInt(Math.floor(tsc())) + u64(STATE.TSC_OFFSET));
    },
  };
}

/** @param state the CPU's, see STATE */
export function interventionIn(memory: GuestMemory, state: DataView): MachineIntervention {
  return {
    words: new Uint32Array(state.buffer, state.byteOffset + STATE.REGS, GENERAL_REGISTERS * 2),
    register: (number) => state.getBigUint64(STATE.REGS + number * 8, true),
    setRegister: (number, value) =>
      state.setBigUint64(STATE.REGS + number * 8, BigInt.asUintN(64, value), true),
    setRip: (value) => state.setBigUint64(STATE.RIP, BigInt.asUintN(64, value), true),
    write: (physical, bytes) => memory.write(physical, bytes),
  };
}
