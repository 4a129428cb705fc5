/**
 * Local APIC in xAPIC and x2APIC mode: Intel SDM volume 3, chapter "Advanced Programmable Interrupt
 * Controller". The timer counts at 1 GHz; the TSC of the TSC-deadline mode is the machine's clock in ns.
 */
import type { Clock, IoRegion } from '../../machine/bus.ts';
import { LapicTimer } from './lapic-timer.ts';

/** Physical address of the register page after reset. */
export const LAPIC_BASE = 0xfee0_0000;
export const MSR_APIC_BASE = 0x1b;
export const MSR_TSC_DEADLINE = 0x6e0;
const MSR_X2APIC_FIRST = 0x800;
const MSR_X2APIC_LAST = 0x83f;

const BASE_BSP = 0x100;
const BASE_X2APIC = 0x400;
const BASE_ENABLE = 0x800;
const BASE_RESERVED = 0x2ff;

/** Register offsets in the MMIO page; an x2APIC MSR is 0x800 + offset / 16. */
const REG = {
  ID: 0x20,
  VERSION: 0x30,
  TPR: 0x80,
  PPR: 0xa0,
  EOI: 0xb0,
  LDR: 0xd0,
  DFR: 0xe0,
  SVR: 0xf0,
  ISR: 0x100,
  ESR: 0x280,
  ICR_LOW: 0x300,
  ICR_HIGH: 0x310,
  LVT_TIMER: 0x320,
  LVT_ERROR: 0x370,
  TIMER_INITIAL: 0x380,
  TIMER_CURRENT: 0x390,
  TIMER_DIVIDE: 0x3e0,
  SELF_IPI: 0x3f0,
} as const;
const REGISTERS: readonly number[] = Object.values(REG);
const X2APIC_WRITE_ONLY: readonly number[] = [REG.EOI, REG.SELF_IPI];
const X2APIC_READ_ONLY: readonly number[] = [REG.ID, REG.VERSION, REG.PPR, REG.LDR, REG.TIMER_CURRENT];
const X2APIC_ABSENT: readonly number[] = [REG.DFR, REG.ICR_HIGH];

/** 6 LVT entries (highest index 5), version 0x14. */
const VERSION = 0x0005_0014;
const SVR_ENABLED = 0x100;
const LVT_MASKED = 0x1_0000;
/** Writable bits of the LVTs: timer, thermal, performance, LINT0, LINT1, error. */
const LVT_WRITABLE = [0x7_00ff, 0x1_07ff, 0x1_07ff, 0x1_a7ff, 0x1_a7ff, 0x1_00ff] as const;
const LVT = { TIMER: 0, LINT0: 3, ERROR: 5 } as const;
const ESR_SEND_ILLEGAL = 0x20;
const ESR_RECEIVE_ILLEGAL = 0x40;
const ESR_REGISTER_ILLEGAL = 0x80;
const SHORTHAND_SELF = 1;

/** Delivery modes of interrupt messages. */
export const DELIVERY = { FIXED: 0, LOWEST: 1, SMI: 2, NMI: 4, INIT: 5, STARTUP: 6, EXTINT: 7 } as const;

/** An interrupt message on the way from an IOAPIC, a device (MSI) or a local APIC to local APICs. */
export interface InterruptMessage {
  readonly vector: number;
  /** One of DELIVERY. */
  readonly delivery: number;
  readonly logical: boolean;
  readonly destination: number;
  readonly level: boolean;
}

/** Registers of a CPU that its instructions change without a call to the board. */
export interface CpuRegisters {
  /** Control register 8: bits 4–7 of the task priority. */
  cr8: number;
  /** The guest's time-stamp counter minus the machine's nanoseconds. */
  readonly tscOffset: bigint;
}

/** What a local APIC needs of the rest of the machine. */
export interface LapicWiring {
  readonly clock: Clock;
  /** Sends a message to the APICs that it addresses; `shorthand` is ICR's: 0 none, 2 all, 3 all but self. */
  send(message: InterruptMessage, from: Lapic, shorthand: number): void;
  /** A level-triggered interrupt has been handled: IOAPICs clear remote IRR. */
  eoi(vector: number): void;
  nmi(apicId: number): void;
  /** The APIC's CPU. */
  readonly cpu: CpuRegisters;
  /** Something changed that may make an interrupt pending, or no longer pending. */
  changed(): void;
}

const highestBit = (words: Uint32Array): number => {
  for (let i = 7; i >= 0; i--) if (words[i] !== 0) return i * 32 + 31 - Math.clz32(words[i]!);
  return -1;
};
const setBit = (words: Uint32Array, bit: number): void => {
  words[bit >>> 5]! |= 1 << (bit & 31);
};
const clearBit = (words: Uint32Array, bit: number): void => {
  words[bit >>> 5]! &= ~(1 << (bit & 31));
};
const testBit = (words: Uint32Array, bit: number): boolean => ((words[bit >>> 5]! >>> (bit & 31)) & 1) !== 0;

export class Lapic {
  readonly id: number;
  /** The MMIO page. */
  readonly region: IoRegion;
  readonly #wiring: LapicWiring;
  readonly #timer: LapicTimer;
  readonly #irr = new Uint32Array(8);
  readonly #isr = new Uint32Array(8);
  readonly #tmr = new Uint32Array(8);
  readonly #lvt = new Uint32Array(6);
  #base = 0;
  /** As last written to the register; see `#taskPriority`. */
  #tpr = 0;
  #ldr = 0;
  #dfr = 0;
  #svr = 0;
  #esr = 0;
  #esrPending = 0;
  #icrLow = 0;
  #icrHigh = 0;

  constructor(id: number, wiring: LapicWiring) {
    this.id = id;
    this.#wiring = wiring;
    this.#timer = new LapicTimer(wiring.clock, wiring.cpu, () => this.#local(LVT.TIMER));
    this.region = {
      name: 'local APIC',
      read: (offset, size) => this.#readMmio(offset, size),
      write: (offset, size, value) => {
        // Registers are 32 bits wide at steps of 16; other accesses have no defined effect.
        if (size === 4 && (offset & 15) === 0) this.#write(offset, value);
      },
    };
    this.reset();
  }

  /** State after power-on; LINT0 passes the 8259's interrupts through, as PC firmware leaves it. */
  reset(): void {
    this.#timer.reset();
    this.#base = LAPIC_BASE + BASE_ENABLE + (this.id === 0 ? BASE_BSP : 0);
    for (const words of [this.#irr, this.#isr, this.#tmr]) words.fill(0);
    this.#lvt.fill(LVT_MASKED);
    if (this.id === 0) this.#lvt[LVT.LINT0] = DELIVERY.EXTINT << 8;
    this.#tpr = this.#ldr = this.#esr = this.#esrPending = this.#icrLow = this.#icrHigh = 0;
    this.#wiring.cpu.cr8 = 0;
    this.#dfr = 0xffff_ffff;
    this.#svr = 0xff;
  }

  get #enabled(): boolean {
    return (this.#base & BASE_ENABLE) !== 0;
  }
  get #x2apic(): boolean {
    return (this.#base & BASE_X2APIC) !== 0;
  }
  get #logicalX2apicId(): number {
    return (((this.id >>> 4) << 16) | (1 << (this.id & 15))) >>> 0;
  }

  /** Whether INTR from the 8259 pair reaches the CPU. */
  get acceptsPic(): boolean {
    const lint0 = this.#lvt[LVT.LINT0]!;
    return !this.#enabled || ((lint0 & LVT_MASKED) === 0 && ((lint0 >>> 8) & 7) === DELIVERY.EXTINT);
  }

  /** The vector to be delivered next, -1 when there is none above the processor priority. */
  get pendingVector(): number {
    if (!this.#enabled || (this.#svr & SVR_ENABLED) === 0) return -1;
    const vector = highestBit(this.#irr);
    return vector >= 0 && vector >>> 4 > this.processorPriority >>> 4 ? vector : -1;
  }

  /** Interrupt acknowledge: moves the pending vector into service and returns it. */
  acknowledge(): number {
    const vector = this.pendingVector;
    if (vector < 0) return this.#svr & 0xff;
    clearBit(this.#irr, vector);
    setBit(this.#isr, vector);
    return vector;
  }

  /** PPR: what lowest-priority delivery compares. */
  get processorPriority(): number {
    const inService = highestBit(this.#isr);
    const serviceClass = inService < 0 ? 0 : inService & 0xf0;
    const taskPriority = this.#taskPriority;
    return (taskPriority & 0xf0) >= serviceClass ? taskPriority : serviceClass;
  }

  /** TPR. Its upper half is CR8, whoever wrote last (Intel SDM volume 3, "Task Priority in IA-32e Mode"). */
  get #taskPriority(): number {
    const { cr8 } = this.#wiring.cpu;
    return cr8 === this.#tpr >>> 4 ? this.#tpr : cr8 << 4;
  }

  /** Whether a message addresses this APIC. */
  matches(message: InterruptMessage): boolean {
    const { destination } = message;
    // IOAPIC and MSI messages carry 8 bits: 0xff addresses all in x2APIC mode too.
    if (destination === 0xff || (this.#x2apic && destination === 0xffff_ffff)) return true;
    if (!message.logical) return destination === this.id;
    if (this.#x2apic) {
      const mine = this.#logicalX2apicId;
      return destination >>> 16 === mine >>> 16 && (destination & mine & 0xffff) !== 0;
    }
    const mine = this.#ldr >>> 24;
    if (this.#dfr >>> 28 === 0xf) return (mine & destination) !== 0;
    return mine >>> 4 === destination >>> 4 && (mine & destination & 15) !== 0;
  }

  /** Takes a message that addresses this APIC. SMI, INIT and STARTUP have nothing to act on. */
  accept(message: InterruptMessage): void {
    if (message.delivery === DELIVERY.FIXED || message.delivery === DELIVERY.LOWEST) {
      this.#request(message.vector, message.level);
    } else if (message.delivery === DELIVERY.NMI) {
      this.#wiring.nmi(this.id);
    }
  }

  #request(vector: number, level: boolean): void {
    if (!this.#enabled) return;
    if (vector < 16) {
      this.#error(ESR_RECEIVE_ILLEGAL);
      return;
    }
    if (level) setBit(this.#tmr, vector);
    else clearBit(this.#tmr, vector);
    setBit(this.#irr, vector);
    this.#wiring.changed();
  }

  #error(bit: number): void {
    const isNew = (this.#esrPending & bit) === 0;
    this.#esrPending |= bit;
    if (isNew) this.#local(LVT.ERROR);
  }

  /** Raises the interrupt of a local vector table entry. */
  #local(index: number): void {
    const entry = this.#lvt[index]!;
    const vector = entry & 0xff;
    // A bad vector in the error entry itself must not report itself for ever.
    if ((entry & LVT_MASKED) === 0 && (vector >= 16 || index !== LVT.ERROR)) this.#request(vector, false);
  }

  #setTpr(value: number): void {
    this.#tpr = value & 0xff;
    this.#wiring.cpu.cr8 = this.#tpr >>> 4;
    this.#wiring.changed();
  }

  #eoi(): void {
    const vector = highestBit(this.#isr);
    if (vector < 0) return;
    clearBit(this.#isr, vector);
    if (testBit(this.#tmr, vector)) this.#wiring.eoi(vector);
    this.#wiring.changed();
  }

  #readMmio(offset: number, size: number): number {
    const shifted = this.#read(offset & 0xff0) >>> ((offset & 3) * 8);
    return size === 4 ? shifted : shifted & (size === 2 ? 0xffff : 0xff);
  }

  #read(offset: number): number {
    if (offset >= REG.ISR && offset < REG.ESR) {
      const words = [this.#isr, this.#tmr, this.#irr][(offset - REG.ISR) >>> 7]!;
      return words[(offset >>> 4) & 7]!;
    }
    if (offset >= REG.LVT_TIMER && offset <= REG.LVT_ERROR) return this.#lvt[(offset - REG.LVT_TIMER) >>> 4]!;
    switch (offset) {
      case REG.ID:
        return this.#x2apic ? this.id : (this.id << 24) >>> 0;
      case REG.VERSION:
        return VERSION;
      case REG.TPR:
        return this.#taskPriority;
      case REG.PPR:
        return this.processorPriority;
      case REG.LDR:
        return this.#x2apic ? this.#logicalX2apicId : this.#ldr;
      case REG.DFR:
        return this.#dfr;
      case REG.SVR:
        return this.#svr;
      case REG.ESR:
        return this.#esr;
      case REG.ICR_LOW:
        return this.#icrLow;
      case REG.ICR_HIGH:
        return this.#icrHigh;
      case REG.TIMER_INITIAL:
        return this.#timer.initialCount;
      case REG.TIMER_CURRENT:
        return this.#timer.currentCount;
      case REG.TIMER_DIVIDE:
        return this.#timer.divide;
      default:
        return 0;
    }
  }

  #write(offset: number, value: number): void {
    if (offset >= REG.LVT_TIMER && offset <= REG.LVT_ERROR) {
      this.#writeLvt((offset - REG.LVT_TIMER) >>> 4, value);
      return;
    }
    switch (offset) {
      case REG.TPR:
        this.#setTpr(value);
        return;
      case REG.EOI:
        this.#eoi();
        return;
      case REG.LDR:
        this.#ldr = (value & 0xff00_0000) >>> 0;
        return;
      case REG.DFR:
        this.#dfr = (value | 0x0fff_ffff) >>> 0;
        return;
      case REG.SVR:
        this.#svr = value & 0x1ff;
        // Software disable masks every entry (SDM, "Local APIC State After It Has Been Software Disabled").
        if ((value & SVR_ENABLED) === 0) for (let i = 0; i < 6; i++) this.#lvt[i]! |= LVT_MASKED;
        this.#wiring.changed();
        return;
      case REG.ESR:
        this.#esr = this.#esrPending;
        this.#esrPending = 0;
        return;
      case REG.ICR_LOW:
        this.#icrLow = (value & ~0x1000) >>> 0;
        this.#sendIpi(value, this.#icrHigh >>> 24);
        return;
      case REG.ICR_HIGH:
        this.#icrHigh = value >>> 0;
        return;
      case REG.TIMER_INITIAL:
        this.#timer.setInitialCount(value >>> 0);
        return;
      case REG.TIMER_DIVIDE:
        this.#timer.setDivide(value);
        return;
      default:
        if (!REGISTERS.includes(offset)) this.#error(ESR_REGISTER_ILLEGAL);
    }
  }

  #writeLvt(index: number, value: number): void {
    let entry = value & LVT_WRITABLE[index]!;
    if ((this.#svr & SVR_ENABLED) === 0) entry |= LVT_MASKED;
    this.#lvt[index] = entry;
    if (index === LVT.TIMER) this.#timer.setMode((entry >>> 17) & 3);
    else if (index === LVT.LINT0) this.#wiring.changed();
  }

  #sendIpi(low: number, destination: number): void {
    const vector = low & 0xff;
    const delivery = (low >>> 8) & 7;
    const shorthand = (low >>> 18) & 3;
    if ((delivery === DELIVERY.FIXED || delivery === DELIVERY.LOWEST) && vector < 16) {
      this.#error(ESR_SEND_ILLEGAL);
      return;
    }
    const message = { vector, delivery, logical: (low & 0x800) !== 0, destination, level: false };
    if (shorthand === SHORTHAND_SELF) this.accept(message);
    else this.#wiring.send(message, this, shorthand);
  }

  /** Reads an MSR of this APIC; undefined where it does not exist in the present mode. */
  readMsr(index: number): bigint | undefined {
    if (index === MSR_APIC_BASE) return BigInt(this.#base);
    if (index === MSR_TSC_DEADLINE) return this.#timer.deadline;
    if (!this.#x2apic || index < MSR_X2APIC_FIRST || index > MSR_X2APIC_LAST) return undefined;
    const offset = (index - MSR_X2APIC_FIRST) << 4;
    if (offset === REG.ICR_LOW) return (BigInt(this.#icrHigh) << 32n) | BigInt(this.#icrLow);
    if (!this.#hasX2apicRegister(offset) || X2APIC_WRITE_ONLY.includes(offset)) return undefined;
    return BigInt(this.#read(offset));
  }

  /** Writes an MSR of this APIC; false where the write must raise #GP. */
  writeMsr(index: number, value: bigint): boolean {
    if (index === MSR_APIC_BASE) return this.#writeBase(value);
    if (index === MSR_TSC_DEADLINE) {
      this.#timer.setDeadline(value);
      return true;
    }
    if (!this.#x2apic || index < MSR_X2APIC_FIRST || index > MSR_X2APIC_LAST) return false;
    return this.#writeX2apic((index - MSR_X2APIC_FIRST) << 4, value);
  }

  #writeX2apic(offset: number, value: bigint): boolean {
    if (offset === REG.ICR_LOW) {
      this.#icrHigh = Number(value >> 32n);
      this.#icrLow = Number(value & 0xffff_efffn);
      this.#sendIpi(this.#icrLow, this.#icrHigh);
      return true;
    }
    const word = Number(value & 0xffff_ffffn);
    if (value >> 32n !== 0n || !this.#hasX2apicRegister(offset)) return false;
    if (X2APIC_READ_ONLY.includes(offset) || (offset >= REG.ISR && offset < REG.ESR)) return false;
    if ((offset === REG.EOI || offset === REG.ESR) && word !== 0) return false;
    if (offset === REG.SELF_IPI) this.#sendIpi((SHORTHAND_SELF << 18) | (word & 0xff), 0);
    else this.#write(offset, word);
    return true;
  }

  #hasX2apicRegister(offset: number): boolean {
    if (X2APIC_ABSENT.includes(offset)) return false;
    if (offset >= REG.ISR && offset <= REG.ESR) return true;
    return (offset >= REG.LVT_TIMER && offset <= REG.LVT_ERROR) || REGISTERS.includes(offset);
  }

  /** IA32_APIC_BASE: the page stays where it is; the mode follows the SDM's table of legal transitions. */
  #writeBase(value: bigint): boolean {
    const low = Number(value & 0xfffn);
    const isX2apic = (low & BASE_X2APIC) !== 0;
    const isEnabled = (low & BASE_ENABLE) !== 0;
    if (value >> 12n !== BigInt(LAPIC_BASE / 4096) || (low & BASE_RESERVED) !== 0) return false;
    if (isX2apic && (!isEnabled || !this.#enabled)) return false;
    if (this.#x2apic && !isX2apic && isEnabled) return false;
    this.#base = LAPIC_BASE + low;
    this.#wiring.changed();
    return true;
  }
}
