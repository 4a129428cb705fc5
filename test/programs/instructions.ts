/** Random instances of the instruction forms, as they stand in a program: operands are what the program has. */
import { CONTROL_FORMS } from '../vectors/forms-control.ts';
import type { Form } from '../vectors/form.ts';
import { INTEGER_FORMS } from '../vectors/forms-integer.ts';
import { SIMD_FORMS } from '../vectors/forms-simd.ts';
import { X87_FORMS } from '../vectors/forms-x87.ts';
import type { Random } from '../vectors/random.ts';
import { little } from './assembler.ts';
import { PLACE } from './places.ts';

export const REG = { AX: 0, CX: 1, DX: 2, BX: 3, SP: 4, BP: 5, SI: 6, DI: 7 } as const;

/** What programs of a kind can use. */
export interface Dialect {
  readonly bits: 32 | 64;
  /** Points to the middle of the data. */
  readonly base: number;
  /** Registers that any instruction may change. */
  readonly free: readonly number[];
  /** Count loops. */
  readonly counters: readonly number[];
}

export const DIALECTS: Readonly<Record<32 | 64, Dialect>> = {
  32: { bits: 32, base: REG.BP, free: [0, 1, 2, 3, 6, 7], counters: [] },
  64: { bits: 64, base: 15, free: [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12], counters: [13, 14] },
};

/** Forms whose opcode holds an address of another address space, or whose point is a faulting encoding. */
const OUTSIDE = /moffs|\[rsp|^(1[56] bytes|invalid)/;
const integer = INTEGER_FORMS.filter(
  ({ name }) => !OUTSIDE.test(name) && !/^(leave|enter|pop|push|popf)/.test(name),
);
const FAMILIES: readonly { readonly weight: number; readonly forms: readonly Form[] }[] = [
  { weight: 70, forms: integer.filter(({ name }) => !/^rep|^(std|ud2)/.test(name)) },
  { weight: 2, forms: integer.filter(({ name }) => /^rep|^(std|ud2)/.test(name)) },
  { weight: 15, forms: SIMD_FORMS.filter(({ family }) => family === 'sse') },
  { weight: 2, forms: SIMD_FORMS.filter(({ family }) => family === 'mmx') },
  { weight: 8, forms: X87_FORMS },
  // to wherever: mostly into the middle of something
  { weight: 0.1, forms: CONTROL_FORMS },
];
const TOTAL = FAMILIES.reduce((sum, { weight }) => sum + weight, 0);

function pickForm(random: Random): Form {
  let left = (random.below(1_000_000) / 1_000_000) * TOTAL;
  for (const { weight, forms } of FAMILIES) {
    left -= weight;
    if (left < 0) return random.pick(forms);
  }
  return random.pick(integer);
}

/** ModRM with what follows it, and its REX bits. */
interface Operand {
  readonly modrm: number;
  readonly bytes: readonly number[];
  readonly rex: number;
  /** RIP-relative: the displacement, to be counted from the instruction's end, leads here. */
  readonly target?: number;
}

/** Bytes of a random instruction that stands at `address`. */
export function randomInstruction(random: Random, dialect: Dialect, address: number): number[] {
  for (;;) {
    const form = pickForm(random);
    const widths = form.widths?.filter((width) => width <= dialect.bits);
    if (widths?.length !== 0)
      return encode(form, widths === undefined ? 0 : random.pick(widths), random, dialect, address);
  }
}

function encode(form: Form, width: number, random: Random, dialect: Dialect, address: number): number[] {
  const memory = form.modrm === 'memory' || (form.modrm === 'both' && random.chance(45));
  const vector = form.family === 'sse' || form.family === 'mmx';
  const register = (eight: boolean): number => {
    if (vector && random.chance(80)) return random.below(eight || dialect.bits === 32 ? 8 : 16);
    const allowed = dialect.free.filter((one) => !eight || one < 8);
    return random.chance(99.5) ? random.pick(allowed) : random.below(eight || dialect.bits === 32 ? 8 : 16);
  };
  const reg = form.digit ?? register(form.eight === 'reg' || form.eight === 'both');
  const immediates = immediate(form, width, random);
  const operand = memory
    ? memoryOperand(form, width, random, dialect)
    : registerOperand(form.rm ?? register(form.eight === 'rm' || form.eight === 'both'));
  const hasModrm = form.modrm !== undefined;
  const opcode = [...form.opcode];
  if (form.opcodeRegister === true) opcode[opcode.length - 1]! += reg & 7;
  const rexR = form.digit === undefined && hasModrm ? (reg >> 3) << 2 : 0;
  const rexB = form.opcodeRegister === true ? reg >> 3 : 0;
  const rex = (width === 64 ? 8 : 0) | rexR | rexB | (hasModrm ? operand.rex : 0);
  const bytes = [
    ...(memory && form.lock === true && random.chance(10) ? [0xf0] : []),
    ...(width === 16 ? [0x66] : []),
    ...(form.prefix === undefined || form.prefix === 0 ? [] : [form.prefix]),
    ...(dialect.bits === 64 && (rex !== 0 || (width === 8 && random.chance(30))) ? [0x40 | rex] : []),
    ...opcode,
    ...(hasModrm ? [operand.modrm | ((reg & 7) << 3), ...operand.bytes] : []),
    ...immediates,
  ];
  if (hasModrm && operand.target !== undefined) {
    const distance = operand.target - (address + bytes.length);
    bytes.splice(-4 - immediates.length, 4, ...little(distance, 4));
  }
  return bytes;
}

function immediate({ imm }: Form, width: number, random: Random): number[] {
  const bytes = imm === 'z' ? (width === 16 ? 2 : 4) : imm === 'v' ? width / 8 : (imm ?? 0);
  const value = imm === 1 && random.chance(50) ? random.below(40) : random.integer();
  return little(value, bytes);
}

const registerOperand = (rm: number): Operand => ({ modrm: 0xc0 | (rm & 7), bytes: [], rex: rm >> 3 });

/** An offset in the data, mostly aligned; rarely where a page ends or cannot be used. */
export function dataOffset(random: Random, bytes: number, align: number): number {
  const kind = random.below(100);
  if (kind < 3) return random.below(PLACE.DATA_BYTES / 4096) * 4096 + 4096 - random.below(bytes + 1);
  if (kind < 9) return PLACE.FLIPPED - PLACE.DATA + random.below(PLACE.FLIPPED_PAGES * 4096 - bytes);
  if (kind < 11) return PLACE.READ_ONLY - PLACE.DATA + random.below(4 * 4096 - bytes);
  // a little room is used again and again
  const at = kind < 75 ? 0x4000 + random.below(256) : random.below(PLACE.DATA_BYTES - bytes);
  return random.chance(97) ? at - (at % align) : at;
}

function memoryOperand(form: Form, width: number, random: Random, dialect: Dialect): Operand {
  const bytes = form.memoryBytes ?? Math.max(1, width / 8);
  const offset = dataOffset(random, bytes, form.align ?? Math.min(bytes, 8));
  const fromBase = offset - PLACE.DATA_BYTES / 2;
  const kind = random.below(100);
  if (kind < 65) return based(dialect.base, undefined, 0, fromBase);
  if (kind < 80) return based(dialect.base, indexFor(random, dialect), random.below(4), fromBase);
  if (kind < 84) return based(random.pick(dialect.free), undefined, 0, random.below(64) - 32);
  if (kind < 92 && dialect.bits === 64)
    return { modrm: 5, bytes: [0, 0, 0, 0], rex: 0, target: PLACE.DATA + offset };
  return absolute(dialect, PLACE.DATA + offset);
}

/** Holds anything: most such accesses go far away. Programs clear it now and then. */
const indexFor = (random: Random, dialect: Dialect): number =>
  random.chance(80) ? REG.BX : random.pick(dialect.free);

/** [disp32]: in 64-bit code by a SIB byte. */
function absolute({ bits }: Dialect, address: number): Operand {
  const disp = little(address, 4);
  return bits === 64 ? { modrm: 4, bytes: [0x25, ...disp], rex: 0 } : { modrm: 5, bytes: disp, rex: 0 };
}

/** [base + index << scale + displacement] */
export function based(base: number, index: number | undefined, scale: number, displacement: number): Operand {
  const short = displacement >= -128 && displacement <= 127;
  const mod = short ? 0x40 : 0x80;
  const disp = little(displacement, short ? 1 : 4);
  if (index === undefined && (base & 7) !== REG.SP) {
    return { modrm: mod | (base & 7), bytes: disp, rex: base >> 3 };
  }
  const sib = (scale << 6) | (((index ?? REG.SP) & 7) << 3) | (base & 7);
  return { modrm: mod | 4, bytes: [sib, ...disp], rex: (((index ?? 0) >> 3) << 1) | (base >> 3) };
}
