/**
 * The instruction being decoded: prefixes, ModRM, operands, and the micro-ops it becomes.
 * Handlers (one file a family, `opcode tables` in `tables.ts`) read operands and call `emit`.
 */
import { FLOW, MODE, STATE, UOP } from '../layout.ts';
import { uop, uopProperty } from '../uops/index.ts';
import type { CodeBytes } from './code-bytes.ts';
import type { UopWriter } from './uop-writer.ts';

/** Raised to end decoding of an instruction that is not one: becomes #UD when it is reached. */
export class UndefinedOpcode extends Error {}

/** Ends decoding of an instruction of more than 15 bytes: #GP(0) when it is reached. */
export class InstructionTooLong extends Error {}

/** Ends decoding of an instruction that the FPU is not available for: #NM when it is reached. */
export class DeviceNotAvailable extends Error {}

export type OperandSize = 16 | 32 | 64;
/** Segment register numbers. */
export const SEGMENT = { ES: 0, CS: 1, SS: 2, DS: 3, FS: 4, GS: 5 } as const;
export const ZERO = STATE.ZERO;
export const TEMP0 = STATE.TEMP0;
export const TEMP1 = STATE.TEMP1;
export const TEMP2 = STATE.TEMP2;
export const TEMP3 = STATE.TEMP3;
const NO_SEGMENT = -1;
const MAX_LENGTH = 15;
/** Micro-ops that access the stack themselves. Of POP m that is checked by a load before it. */
const isStackUop = uopProperty((name) =>
  /^(push|pop(?!.*m$|cnt)|call|ret|leave|enter|iret|farcall|farret)/.test(name),
);

/** Suffixes of stack micro-ops by operand width and width of the stack pointer. */
const STACKS: Readonly<Record<number, Readonly<Record<number, string>>>> = {
  16: { 16: '16.16', 32: '16.32', 64: '16.64' },
  32: { 16: '32.16', 32: '32.32' },
  64: { 64: '64.64' },
};

export { FLOW };
/** What a handler says about what follows. */
export type Flow = (typeof FLOW)[keyof typeof FLOW];

export class Instruction {
  readonly code: CodeBytes;
  readonly out: UopWriter;
  readonly mode: number;
  readonly long: boolean;
  operandSize: OperandSize = 32;
  addressSize: OperandSize = 32;
  /** Mandatory prefix of SSE instructions: 0x66 if present. */
  prefix66 = false;
  /** 0, 0xf2 or 0xf3: the last of them. */
  repeat = 0;
  lock = false;
  rex = 0;
  segment: number = NO_SEGMENT;
  opcode = 0;
  /** ModRM fields, REX included; `rm` is a register number when `isRegister`. */
  mod = 0;
  reg = 0;
  rm = 0;
  modrm = 0;
  /** Memory operand. */
  base: number = ZERO;
  index: number = ZERO;
  scale = 0;
  disp = 0;
  defaultSegment: number = SEGMENT.DS;
  #addressReady = false;
  readonly #firstUop: number;
  readonly #startOffset: number;

  constructor(code: CodeBytes, out: UopWriter, mode: number) {
    this.code = code;
    this.out = out;
    this.mode = mode;
    const codeSize = mode & MODE.CODE_SIZE_MASK;
    this.long = codeSize === MODE.CODE64;
    this.operandSize = codeSize === MODE.CODE16 ? 16 : 32;
    this.addressSize = this.long ? 64 : this.operandSize;
    this.#firstUop = out.count;
    this.#startOffset = code.pageOffset;
  }

  /** Where it begins in the page, for micro-ops that have it as an operand. */
  get place(): number {
    this.code.placeMatters = true;
    return this.#startOffset;
  }

  // ---- bytes ----

  u8(): number {
    // Not fetched: it may lie in a page that is not there.
    if (this.code.pageOffset - this.#startOffset >= MAX_LENGTH) throw new InstructionTooLong();
    return this.code.next();
  }
  s8(): number {
    return (this.u8() << 24) >> 24;
  }
  u16(): number {
    return this.u8() | (this.u8() << 8);
  }
  s32(): number {
    return this.u16() | (this.u16() << 16);
  }
  /** An immediate of the operand size, at most 32 bits, sign-extended. */
  immediate(size: number): number {
    if (size === 8) return this.s8();
    return size === 16 ? (this.u16() << 16) >> 16 : this.s32();
  }

  // ---- prefixes ----

  /** Reads prefixes and leaves the first opcode byte in `opcode`. */
  prefixes(): void {
    for (;;) {
      const byte = this.u8();
      if (this.long && (byte & 0xf0) === 0x40) {
        this.rex = byte;
        this.opcode = this.u8();
        // A REX that is not directly before the opcode does not count.
        if (!this.#prefix(this.opcode) && (this.opcode & 0xf0) !== 0x40) break;
        this.rex = 0;
        if ((this.opcode & 0xf0) === 0x40) this.code.back();
        continue;
      }
      if (!this.#prefix(byte)) {
        this.opcode = byte;
        break;
      }
    }
    if (this.rex & 8) this.operandSize = 64;
    else if (this.prefix66) this.operandSize = this.operandSize === 16 ? 32 : 16;
  }

  #prefix(byte: number): boolean {
    switch (byte) {
      case 0x66:
        this.prefix66 = true;
        return true;
      case 0x67:
        this.addressSize = this.addressSize === 32 ? (this.long ? 32 : 16) : 32;
        return true;
      case 0xf0:
        this.lock = true;
        return true;
      case 0xf2:
      case 0xf3:
        this.repeat = byte;
        return true;
      case 0x26:
      case 0x2e:
      case 0x36:
      case 0x3e:
        if (!this.long) this.segment = (byte >> 3) & 3;
        return true;
      case 0x64:
      case 0x65:
        this.segment = byte - 0x60;
        return true;
      default:
        return false;
    }
  }

  // ---- ModRM ----

  get isRegister(): boolean {
    return this.mod === 3;
  }

  /** Reads ModRM, SIB and displacement. */
  readModrm(): void {
    this.modrm = this.u8();
    this.mod = this.modrm >> 6;
    this.reg = ((this.modrm >> 3) & 7) | ((this.rex & 4) << 1);
    this.rm = this.modrm & 7;
    if (this.mod === 3) {
      this.rm |= (this.rex & 1) << 3;
    } else if (this.addressSize === 16) {
      this.#address16();
    } else {
      this.#address32();
    }
  }

  #address16(): void {
    const [BX, BP, SI, DI] = [3, 5, 6, 7].map((n) => n * 8);
    const pairs = [
      [BX, SI],
      [BX, DI],
      [BP, SI],
      [BP, DI],
      [SI, ZERO],
      [DI, ZERO],
      [BP, ZERO],
      [BX, ZERO],
    ];
    [this.base, this.index] = pairs[this.rm];
    if (this.mod === 0 && this.rm === 6) {
      this.base = ZERO;
      this.disp = (this.u16() << 16) >> 16;
      return;
    }
    if (this.base === BP) this.defaultSegment = SEGMENT.SS;
    if (this.mod === 1) this.disp = this.s8();
    if (this.mod === 2) this.disp = (this.u16() << 16) >> 16;
  }

  #address32(): void {
    if (this.rm === 4) {
      const sib = this.u8();
      const index = ((sib >> 3) & 7) | ((this.rex & 2) << 2);
      if (index !== 4) {
        this.index = index * 8;
        this.scale = sib >> 6;
      }
      this.#baseRegister(sib & 7);
    } else if (this.rm === 5 && this.mod === 0) {
      this.disp = this.s32();
      if (this.long) this.base = STATE.PAGE;
      return;
    } else {
      this.#baseRegister(this.rm);
    }
    if (this.mod === 1) this.disp = this.s8();
    if (this.mod === 2) this.disp = this.s32();
  }

  #baseRegister(low: number): void {
    if (low === 5 && this.mod === 0) {
      this.disp = this.s32();
      return;
    }
    this.base = (low | ((this.rex & 1) << 3)) * 8;
    if (low === 4 || low === 5) this.defaultSegment = this.rex & 1 ? SEGMENT.DS : SEGMENT.SS;
  }

  /** An absolute address in the instruction (MOV AL, moffs). */
  setAbsolute(low: number, high: number): void {
    this.mod = 0;
    this.disp = low;
    if (high !== low >> 31) {
      this.emit(uop`mov64.ri`, TEMP0, ZERO, low, high);
      this.base = TEMP0;
      this.disp = 0;
    }
  }

  /** State offset of the base of the segment that a memory operand uses; ZERO where that is known to be 0. */
  segmentBase(fallback: number = this.defaultSegment): number {
    const segment = this.segment === NO_SEGMENT ? fallback : this.segment;
    if (segment === SEGMENT.FS || segment === SEGMENT.GS) return STATE.SEG_BASE + segment * 8;
    if (this.long) return ZERO;
    if (this.mode & MODE.FLAT && segment !== SEGMENT.CS) return ZERO;
    return STATE.SEG_BASE + segment * 8;
  }

  // Segment limits and the types of data segments are not checked: outside 64-bit mode an access beyond a limit, through
  // a null selector or to a read-only segment raises nothing, unless paging does. Checks would cost each access of
  // segmented code a comparison with its size, and systems that rely on them are older than the processor this is.
  // Limits of descriptor tables, gates, the task state segment and code segments at far transfers are checked.

  /** Makes base + index << scale + disp the linear address, through TEMP0 where it takes more than that. */
  memory(): void {
    if (this.#addressReady) return;
    this.#addressReady = true;
    const base = this.segmentBase();
    if (this.addressSize === 64 && base === ZERO) return;
    this.emit(this.#addressOp, TEMP0, base);
    this.#useTemp0();
  }

  /** Puts the linear address into TEMP0, for instructions that change its registers before the last access. */
  fixAddress(): void {
    this.memory();
    if (this.base === TEMP0) return;
    this.emit(uop`ea64`, TEMP0, ZERO);
    this.#useTemp0();
  }

  /** Adds the displacement of a bit string's unit (BT m, r). */
  bitAddress(): void {
    this.#addressReady = true;
    const base = this.segmentBase();
    this.emit(this.#addressOp, TEMP0, base);
    this.emit(uop`bitaddress${this.operandSize}`, TEMP0, this.gpr(this.reg));
    this.#useTemp0();
  }

  /** What computes an address of this size with the base of its segment. */
  get #addressOp(): number {
    return this.addressSize === 32 && this.long ? uop`ea32.64` : uop`ea${this.addressSize}`;
  }

  #useTemp0(): void {
    this.base = TEMP0;
    this.index = ZERO;
    this.scale = 0;
    this.disp = 0;
  }

  /** Loads what is on top of the stack, for faults alone (64-bit mode). */
  probeStack(width: number): void {
    const scale = UOP.STACK;
    this.out.write(uop`mov${width}.rm`, TEMP1, ZERO, STATE.REGS + 32, ZERO, scale, 0, 0, 0);
  }

  // ---- registers ----

  /** State offset of a general register of 16 bits or more. */
  gpr(number: number): number {
    return number * 8;
  }
  /** The same for any width: AH, CH, DH, BH are the second byte where no REX is present. */
  register(number: number, width: number): number {
    if (width === 8 && this.rex === 0 && number >= 4) return (number - 4) * 8 + 1;
    return number * 8;
  }
  /** The register operand ModRM.reg. */
  regOperand(width: number): number {
    return this.register(this.reg, width);
  }
  /** The register operand ModRM.rm (when isRegister). */
  rmOperand(width: number): number {
    return this.register(this.rm, width);
  }
  xmm(number: number): number {
    return STATE.XMM + number * 16;
  }

  /** Width of a stack operation: 64 bits by default in 64-bit mode. */
  get stackWidth(): number {
    if (!this.long) return this.operandSize;
    return this.prefix66 && !(this.rex & 8) ? 16 : 64;
  }
  /** Suffix of stack micro-ops: operand width and width of the stack pointer. */
  get stack(): string {
    return STACKS[this.stackWidth]![this.stackPointer]!;
  }
  get stackPointer(): number {
    return this.long ? 64 : this.mode & MODE.STACK32 ? 32 : 16;
  }

  /** SSE instructions need CR4.OSFXSR and CR0.TS clear; otherwise the block ends in the exception. */
  requireSse(): void {
    if (this.mode & MODE.SSE_OFF) throw new UndefinedOpcode('CR4.OSFXSR');
    this.requireFpu();
  }
  requireFpu(): void {
    if (this.mode & MODE.FPU_TRAP) throw new DeviceNotAvailable('CR0.TS');
  }

  // ---- micro-ops ----

  /** Appends a micro-op with the present memory operand. The immediate is sign-extended unless `high` is given. */
  emit(op: number, a: number = ZERO, b: number = ZERO, low = 0, high: number = low >> 31): void {
    const operandOnStack = this.defaultSegment === SEGMENT.SS && this.segment === NO_SEGMENT;
    const scale = operandOnStack || isStackUop(op) ? this.scale | UOP.STACK : this.scale;
    this.out.write(op, a, b, this.base, this.index, scale, this.disp, low, high);
  }

  /** Loads the r/m operand's value: its register, or `temp` after a load. Bytes use `width` 8. */
  source(width: number, temp: number = TEMP1): number {
    if (this.isRegister) return this.rmOperand(width);
    this.memory();
    this.emit(uop`mov${width}.rm`, temp);
    return temp;
  }

  /**
   * Read-modify-write of the r/m operand by a register form: on memory, the value goes through TEMP1
   * between a checked load and a store that can no longer fault.
   * @param written state offset of another register that the operation writes
   */
  modify(width: number, operate: (register: number) => void, written: number = ZERO): void {
    if (this.isRegister) {
      operate(this.rmOperand(width));
      return;
    }
    this.memory();
    const whole = written & ~7;
    if (whole !== ZERO && (this.base === whole || this.index === whole)) this.fixAddress();
    this.emit(uop`rmw${width}.rm`, TEMP1);
    operate(TEMP1);
    this.emit(uop`mov${width}.mr`, ZERO, TEMP1);
  }

  /** Fills in what is only known at the instruction's end. */
  finish(done: number): void {
    const nextPc = this.code.pageOffset;
    this.out.finishInstruction(this.#firstUop, done, this.#startOffset, nextPc);
    // Only RIP-relative operands have PAGE as their base: they count from the next instruction.
    this.out.addDisplacement(this.#firstUop, STATE.PAGE, nextPc);
  }

  /** IMM of a branch: the target relative to the page, for displacement from the next instruction. */
  branchTarget(displacement: number): number {
    this.code.placeMatters = true;
    return this.code.pageOffset + displacement;
  }
}
