/** Encodes a random instance of a form: prefixes, registers, addressing modes, immediates. */
import type { Form, Operands } from './form.ts';
import { PLACE } from './layout.ts';
import type { Random } from './random.ts';
import { TestCase } from './test-case.ts';

const RSP = 4;
const RBP = 5;
const SEGMENT_PREFIXES = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];
/** An address in no page, and one that is not canonical. */
const UNMAPPED = 0x3000_0000n;
const NOT_CANONICAL = 0x0123_4567_89ab_cdefn;

/** ModRM, SIB and displacement, with what they add to REX. */
interface Addressing {
  readonly modrm: number;
  readonly bytes: number[];
  readonly rexX: number;
  readonly rexB: number;
  /** RIP-relative: where it points; the displacement is filled in when the length is known. */
  readonly ripTarget?: bigint;
}

const little = (value: bigint, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, i) => Number((BigInt.asUintN(64, value) >> BigInt(i * 8)) & 0xffn));

/** Makes a case of a form; `random` decides everything. */
export function makeCase(form: Form, random: Random): TestCase {
  const test = new TestCase(form, random);
  const width = form.widths === undefined ? 0 : random.pick(form.widths);
  const memory = form.modrm === 'memory' || (form.modrm === 'both' && random.chance(55));
  const immBytes = immediateBytes(form, width);
  const operands: Operands = {
    width,
    reg: form.digit ?? random.below(form.eight === 'reg' || form.eight === 'both' ? 8 : 16),
    rm: memory ? -1 : (form.rm ?? random.below(form.eight === 'rm' || form.eight === 'both' ? 8 : 16)),
    imm: form.imm === 1 && random.chance(50) ? BigInt(random.below(72)) : random.integer(),
  };
  form.prepare?.(test, operands);
  const hasModrm = form.modrm !== undefined;
  const lock = lockPrefix(form, random, memory);
  const narrow = memory && random.chance(8);
  const addressing = memory ? address(test, operands, narrow) : registerOperand(operands);
  const prefixes = legacyPrefixes(form, random, width, { lock, narrow, memory });
  const rex = rexPrefix(form, random, operands, hasModrm ? addressing : { rexX: 0, rexB: 0 });
  const opcode = [...form.opcode];
  if (form.opcodeRegister === true) opcode[opcode.length - 1] += operands.reg & 7;
  const tail = hasModrm ? [addressing.modrm | ((operands.reg & 7) << 3), ...addressing.bytes] : [];
  const imm = little(operands.imm, immBytes);
  test.code = [...prefixes, ...rex, ...opcode, ...tail, ...imm];
  if (hasModrm && addressing.ripTarget !== undefined) {
    const next = BigInt(PLACE.CODE + test.code.length);
    test.code.splice(-4 - immBytes, 4, ...little(addressing.ripTarget - next, 4));
  }
  const { undefinedFlags } = form;
  test.undefinedFlags =
    typeof undefinedFlags === 'function' ? undefinedFlags(test, operands) : (undefinedFlags ?? 0);
  return test;
}

function immediateBytes(form: Form, width: number): number {
  if (form.imm === 'z') return width === 16 ? 2 : 4;
  if (form.imm === 'v') return width === 16 ? 2 : width === 64 ? 8 : 4;
  return form.imm ?? 0;
}

function registerOperand({ rm }: Operands): Addressing {
  return { modrm: 0xc0 | (rm & 7), bytes: [], rexX: 0, rexB: rm >> 3 };
}

function legacyPrefixes(
  form: Form,
  random: Random,
  width: number,
  { lock, narrow, memory }: { lock: boolean; narrow: boolean; memory: boolean },
): number[] {
  const prefixes: number[] = [];
  if (lock) prefixes.push(0xf0);
  if (narrow) prefixes.push(0x67);
  if (memory && random.chance(4)) prefixes.push(random.pick(SEGMENT_PREFIXES));
  // A REX prefix that is not directly before the opcode counts for nothing, as does 0x66 on a byte operation.
  if (prefixes.length > 0 && random.chance(10)) prefixes.push(0x40 + random.below(16), 0x2e);
  if (width === 8 && random.chance(5)) prefixes.push(0x66);
  if (width === 16) prefixes.push(0x66);
  if (form.prefix !== undefined && form.prefix !== 0) prefixes.push(form.prefix);
  return prefixes;
}

/** LOCK is for memory and a few instructions; elsewhere it is an invalid opcode, which is tested now and then. */
function lockPrefix(form: Form, random: Random, memory: boolean): boolean {
  if (form.family !== 'integer' || form.modrm === undefined) return false;
  return random.chance(memory && form.lock === true ? 15 : 2);
}

function rexPrefix(
  form: Form,
  random: Random,
  { width, reg }: Operands,
  { rexX, rexB }: Pick<Addressing, 'rexX' | 'rexB'>,
): number[] {
  const inOpcode = form.opcodeRegister === true;
  const r = form.digit === undefined && !inOpcode && form.modrm !== undefined ? reg >> 3 : 0;
  const b = inOpcode ? reg >> 3 : rexB;
  const bits = (width === 64 ? 8 : 0) | (r << 2) | (rexX << 1) | b;
  return bits !== 0 || random.chance(15) ? [0x40 | bits] : [];
}

/** The address that the operand shall have; rarely one that faults. */
function target(test: TestCase, { width }: Operands, narrow: boolean): bigint {
  const { form, random } = test;
  const bytes = form.memoryBytes ?? width / 8;
  // A destination that can be read but not written: nothing may have changed when the fault comes.
  if (random.chance(3)) return BigInt(PLACE.READ_ONLY + random.below(250) * 16);
  if (random.chance(2)) return UNMAPPED + BigInt(random.below(4096));
  if (random.chance(2)) return BigInt(PLACE.DATA_PAGE + 8192 - random.below(bytes + 1));
  if (random.chance(1) && !narrow) return NOT_CANONICAL;
  const align = random.chance(95) ? (form.align ?? 1) : 1;
  return BigInt(test.address(bytes, align));
}

/** Chooses an addressing mode, and register values that lead to the target. */
function address(test: TestCase, operands: Operands, narrow: boolean): Addressing {
  const { random } = test;
  const at = target(test, operands, narrow);
  const free = Array.from({ length: 16 }, (_, i) => i).filter((r) => !test.pinned.has(r));
  const base = random.pick(free);
  const indices = free.filter((r) => r !== base && r !== RSP);
  const index = random.pick(indices);
  const scale = random.below(4);
  const direct = at < 0x8000_0000n;
  const kind = random.below(direct ? 6 : 3);
  const dispBytes = random.pick([0, 1, 4]);
  const displacement =
    dispBytes === 0 ? 0n : BigInt.asIntN(dispBytes * 8, dispBytes === 1 ? random.u64() : random.integer());
  const set = (register: number, value: bigint): void => {
    test.registers[register] = narrow
      ? (random.u64() & ~0xffff_ffffn) | BigInt.asUintN(32, value)
      : BigInt.asUintN(64, value);
  };
  if (kind <= 2) {
    const scaled = kind === 2 ? test.registers[index] << BigInt(scale) : 0n;
    set(base, at - displacement - scaled);
    return based(base, kind === 2 ? index : undefined, scale, displacement, dispBytes);
  }
  if (kind === 3) {
    return { modrm: 5, bytes: [0, 0, 0, 0], rexX: 0, rexB: 0, ripTarget: at };
  }
  if (kind === 4) {
    return { modrm: 4, bytes: [0x25, ...little(at, 4)], rexX: 0, rexB: 0 };
  }
  const offset = BigInt.asIntN(32, BigInt(random.below(0x1000_0000)) << BigInt(scale));
  set(index, offset >> BigInt(scale));
  const sib = (scale << 6) | ((index & 7) << 3) | 5;
  return { modrm: 4, bytes: [sib, ...little(at - offset, 4)], rexX: index >> 3, rexB: 0 };
}

function based(
  base: number,
  index: number | undefined,
  scale: number,
  displacement: bigint,
  dispBytes: number,
): Addressing {
  // Without a displacement, RBP and R13 as base mean something else.
  const bytes = dispBytes === 0 && (base & 7) === RBP ? 1 : dispBytes;
  const mod = bytes === 0 ? 0 : bytes === 1 ? 0x40 : 0x80;
  const disp = little(displacement, bytes);
  const rexB = base >> 3;
  if (index === undefined && (base & 7) !== RSP) {
    return { modrm: mod | (base & 7), bytes: disp, rexX: 0, rexB };
  }
  const sib = (scale << 6) | (((index ?? RSP) & 7) << 3) | (base & 7);
  return { modrm: mod | 4, bytes: [sib, ...disp], rexX: (index ?? 0) >> 3, rexB };
}
