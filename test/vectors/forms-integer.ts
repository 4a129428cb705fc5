/** The integer instructions of user mode (Intel SDM volume 2, opcode maps of 64-bit mode). */
import { FLAG, type Form, type Operands, STATUS_FLAGS } from './form.ts';
import { PLACE, WINDOW_BYTES } from './layout.ts';
import type { TestCase } from './test-case.ts';

const RAX = 0;
const RCX = 1;
const RDX = 2;
const RBX = 3;
const RSP = 4;
const RBP = 5;
const RSI = 6;
const RDI = 7;
const WIDE = [16, 32, 64];
const { CF, PF, AF, ZF, SF, OF } = FLAG;

type Details = Omit<Form, 'name' | 'family' | 'opcode'>;
const form = (name: string, opcode: readonly number[], details: Details = {}): Form => ({
  name,
  family: 'integer',
  opcode,
  ...details,
});

/** The byte form, and with the next opcode the wider ones. */
function sizes(name: string, opcode: readonly number[], details: Details = {}): Form[] {
  const last = opcode.length - 1;
  const wide = opcode.map((byte, i) => (i === last ? byte + 1 : byte));
  return [
    form(`${name} 8`, opcode, { widths: [8], ...details }),
    form(name, wide, { widths: WIDE, ...details }),
  ];
}

const ARITHMETIC = ['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor', 'cmp'];

function arithmetic(): Form[] {
  return ARITHMETIC.flatMap((name, n) => {
    const logical = name === 'or' || name === 'and' || name === 'xor';
    const undefinedFlags = logical ? AF : 0;
    const lock = name !== 'cmp';
    const op = n * 8;
    return [
      ...sizes(`${name} rm, r`, [op], { modrm: 'both', undefinedFlags, lock }),
      ...sizes(`${name} r, rm`, [op + 2], { modrm: 'both', undefinedFlags }),
      form(`${name} al, imm`, [op + 4], { imm: 1, undefinedFlags }),
      form(`${name} eax, imm`, [op + 5], { widths: WIDE, imm: 'z', undefinedFlags }),
      form(`${name} rm8, imm`, [0x80], {
        widths: [8],
        modrm: 'both',
        digit: n,
        imm: 1,
        undefinedFlags,
        lock,
      }),
      form(`${name} rm, imm`, [0x81], {
        widths: WIDE,
        modrm: 'both',
        digit: n,
        imm: 'z',
        undefinedFlags,
        lock,
      }),
      form(`${name} rm, imm8`, [0x83], {
        widths: WIDE,
        modrm: 'both',
        digit: n,
        imm: 1,
        undefinedFlags,
        lock,
      }),
    ];
  });
}

/** Keeps most quotients in range: the upper half of the dividend becomes a sign extension or small. */
function prepareDivision(test: TestCase, { width }: Operands): void {
  const { random } = test;
  if (random.chance(25)) return;
  if (width === 8) {
    test.pin(RAX, (test.registers[RAX] & ~0xffffn) | BigInt(random.below(256)));
    return;
  }
  const negative = (test.registers[RAX] >> BigInt(width - 1)) & 1n;
  test.pin(RDX, random.chance(50) ? -negative : BigInt(random.below(4)));
}

function unary(): Form[] {
  const all = STATUS_FLAGS;
  const product = SF | ZF | AF | PF;
  const group = (name: string, digit: number, details: Details = {}): Form[] =>
    sizes(name, [0xf6], { modrm: 'both', digit, ...details });
  return [
    ...sizes('test rm, r', [0x84], { modrm: 'both', undefinedFlags: AF }),
    form('test al, imm', [0xa8], { imm: 1, undefinedFlags: AF }),
    form('test eax, imm', [0xa9], { widths: WIDE, imm: 'z', undefinedFlags: AF }),
    form('test rm8, imm', [0xf6], { widths: [8], modrm: 'both', digit: 0, imm: 1, undefinedFlags: AF }),
    form('test rm, imm', [0xf7], { widths: WIDE, modrm: 'both', digit: 0, imm: 'z', undefinedFlags: AF }),
    ...group('not', 2, { lock: true }),
    ...group('neg', 3, { lock: true }),
    ...group('mul', 4, { undefinedFlags: product }),
    ...group('imul', 5, { undefinedFlags: product }),
    ...group('div', 6, { undefinedFlags: all, prepare: prepareDivision }),
    ...group('idiv', 7, { undefinedFlags: all, prepare: prepareDivision }),
    form('imul r, rm', [0x0f, 0xaf], { widths: WIDE, modrm: 'both', undefinedFlags: product }),
    form('imul r, rm, imm', [0x69], { widths: WIDE, modrm: 'both', imm: 'z', undefinedFlags: product }),
    form('imul r, rm, imm8', [0x6b], { widths: WIDE, modrm: 'both', imm: 1, undefinedFlags: product }),
    ...sizes('inc', [0xfe], { modrm: 'both', digit: 0, lock: true }),
    ...sizes('dec', [0xfe], { modrm: 'both', digit: 1, lock: true }),
    form('cbw', [0x98], { widths: WIDE }),
    form('cwd', [0x99], { widths: WIDE }),
    form('bswap', [0x0f, 0xc8], { widths: [32, 64], opcodeRegister: true }),
  ];
}

function moves(): Form[] {
  const conditions = Array.from({ length: 16 }, (_, c) => c);
  return [
    ...sizes('mov rm, r', [0x88], { modrm: 'both' }),
    ...sizes('mov r, rm', [0x8a], { modrm: 'both' }),
    form('mov r8, imm', [0xb0], { widths: [8], opcodeRegister: true, imm: 1 }),
    form('mov r, imm', [0xb8], { widths: WIDE, opcodeRegister: true, imm: 'v' }),
    form('mov rm8, imm', [0xc6], { widths: [8], modrm: 'both', digit: 0, imm: 1 }),
    form('mov rm, imm', [0xc7], { widths: WIDE, modrm: 'both', digit: 0, imm: 'z' }),
    form('movnti', [0x0f, 0xc3], { widths: [32, 64], modrm: 'memory' }),
    form('movzx r, rm8', [0x0f, 0xb6], { widths: WIDE, modrm: 'both', memoryBytes: 1 }),
    form('movzx r, rm16', [0x0f, 0xb7], { widths: WIDE, modrm: 'both', memoryBytes: 2 }),
    form('movsx r, rm8', [0x0f, 0xbe], { widths: WIDE, modrm: 'both', memoryBytes: 1 }),
    form('movsx r, rm16', [0x0f, 0xbf], { widths: WIDE, modrm: 'both', memoryBytes: 2 }),
    form('movsxd', [0x63], { widths: [32, 64], modrm: 'both', memoryBytes: 4 }),
    form('lea', [0x8d], { widths: WIDE, modrm: 'memory' }),
    ...sizes('xchg rm, r', [0x86], { modrm: 'both', lock: true }),
    form('xchg r, eax', [0x90], { widths: WIDE, opcodeRegister: true }),
    ...conditions.map((c) => form(`cmov${c}`, [0x0f, 0x40 + c], { widths: WIDE, modrm: 'both' })),
    ...conditions.map((c) => form(`set${c}`, [0x0f, 0x90 + c], { widths: [8], modrm: 'both' })),
    form('nop rm', [0x0f, 0x1f], { widths: WIDE, modrm: 'both', digit: 0 }),
    form('xlat', [0xd7], {
      prepare: (test) => {
        test.pin(RBX, BigInt(test.address(1)) - (test.registers[RAX] & 0xffn));
      },
    }),
    ...[
      ['mov al, moffs', 0xa0],
      ['mov eax, moffs', 0xa1],
      ['mov moffs, al', 0xa2],
      ['mov moffs, eax', 0xa3],
    ].map(([name, opcode]) =>
      form(String(name), [Number(opcode), ...address64()], { widths: Number(opcode) & 1 ? WIDE : [8] }),
    ),
  ];
}

/** A 64-bit absolute address in the window. */
function address64(): number[] {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setUint32(0, PLACE.WINDOW + 100, true);
  return [...bytes];
}

/** RCL and RCR turn through CF: their period is one more than the operand's width. */
function shiftFlags(digit: number, count: (test: TestCase, o: Operands) => number) {
  return (test: TestCase, operands: Operands): number => {
    const { width } = operands;
    const masked = count(test, operands) & (width === 64 ? 63 : 31);
    if (masked === 0) return 0;
    const rotate = digit < 4;
    const overflow = masked === 1 ? 0 : OF;
    if (rotate) return overflow;
    const carry = digit !== 7 && masked >= width ? CF : 0;
    return overflow | AF | carry;
  };
}

function shifts(): Form[] {
  const names = ['rol', 'ror', 'rcl', 'rcr', 'shl', 'shr', 'sal', 'sar'];
  const immediate = (_: TestCase, o: Operands): number => Number(o.imm & 0xffn);
  const inCl = (test: TestCase): number => Number(test.registers[RCX] & 0xffn);
  const prepareCl = (test: TestCase): void => {
    const high = test.registers[RCX] & ~0xffn;
    test.pin(RCX, high | BigInt(test.random.chance(70) ? test.random.below(70) : test.random.below(256)));
  };
  const single = names.flatMap((name, digit) => [
    ...sizes(`${name} rm, 1`, [0xd0], { modrm: 'both', digit, undefinedFlags: shiftFlags(digit, () => 1) }),
    ...sizes(`${name} rm, imm`, [0xc0], {
      modrm: 'both',
      digit,
      imm: 1,
      undefinedFlags: shiftFlags(digit, immediate),
    }),
    ...sizes(`${name} rm, cl`, [0xd2], {
      modrm: 'both',
      digit,
      prepare: prepareCl,
      undefinedFlags: shiftFlags(digit, inCl),
    }),
  ]);
  // SHLD and SHRD by more than the width are undefined altogether; 16 bits are tested with CL only.
  const doubleFlags = (count: (test: TestCase, o: Operands) => number) => (test: TestCase, o: Operands) => {
    const masked = count(test, o) & (o.width === 64 ? 63 : 31);
    return masked === 0 ? 0 : AF | (masked === 1 ? 0 : OF);
  };
  const clBelowWidth = (test: TestCase, { width }: Operands): void =>
    test.pin(RCX, (test.random.u64() & ~0xffn) | BigInt(test.random.below(width)));
  const double = [
    ['shld', 0xa4],
    ['shrd', 0xac],
  ].flatMap(([name, opcode]) => [
    form(`${name} imm`, [0x0f, Number(opcode)], {
      widths: [32, 64],
      modrm: 'both',
      imm: 1,
      undefinedFlags: doubleFlags(immediate),
    }),
    form(`${name} cl`, [0x0f, Number(opcode) + 1], {
      widths: WIDE,
      modrm: 'both',
      prepare: clBelowWidth,
      undefinedFlags: doubleFlags(inCl),
    }),
  ]);
  return [...single, ...double];
}

function bits(): Form[] {
  const names = ['bt', 'bts', 'btr', 'btc'];
  const undefinedFlags = OF | SF | AF | PF;
  /** With memory, the bit offset reaches beyond the operand: keep that within the window's middle. */
  const near = (test: TestCase, { reg, rm }: Operands): void => {
    if (rm < 0) test.pin(reg, BigInt(test.random.below(64)));
  };
  const scan = OF | SF | AF | PF | CF;
  return [
    ...names.flatMap((name, n) => [
      form(`${name} rm, r`, [0x0f, 0xa3 + n * 8], {
        widths: WIDE,
        modrm: 'both',
        memoryBytes: 16,
        prepare: near,
        undefinedFlags,
        lock: n > 0,
      }),
      form(`${name} rm, imm`, [0x0f, 0xba], {
        widths: WIDE,
        modrm: 'both',
        digit: 4 + n,
        imm: 1,
        undefinedFlags,
        lock: n > 0,
      }),
    ]),
    form('bsf', [0x0f, 0xbc], { widths: WIDE, modrm: 'both', undefinedFlags: scan, prepare: nonZeroSource }),
    form('bsr', [0x0f, 0xbd], { widths: WIDE, modrm: 'both', undefinedFlags: scan, prepare: nonZeroSource }),
    form('popcnt', [0x0f, 0xb8], { prefix: 0xf3, widths: WIDE, modrm: 'both' }),
    form('crc32 r, rm8', [0x0f, 0x38, 0xf0], {
      prefix: 0xf2,
      widths: [32, 64],
      modrm: 'both',
      memoryBytes: 1,
    }),
    form('crc32 r, rm', [0x0f, 0x38, 0xf1], { prefix: 0xf2, widths: WIDE, modrm: 'both' }),
  ];
}

/** The result of scanning zero is undefined. */
function nonZeroSource(test: TestCase, { rm }: Operands): void {
  if (rm >= 0) test.registers[rm] |= 1n << BigInt(test.random.below(16));
  else for (let i = 0; i < WINDOW_BYTES; i++) test.window[i] |= 0x10;
}

function exchanges(): Form[] {
  /** Half of the cases compare equal. */
  const accumulator = (test: TestCase, { rm }: Operands): void => {
    if (rm >= 0 && test.random.chance(50)) test.pin(RAX, test.registers[rm]);
    else if (test.random.chance(50)) {
      test.window.fill(test.random.below(256));
      test.pin(RAX, new DataView(test.window.buffer).getBigUint64(0, true));
    }
  };
  const pair = (test: TestCase, { width }: Operands): void => {
    if (test.random.chance(50)) {
      test.window.fill(test.random.below(256));
      const value = new DataView(test.window.buffer).getBigUint64(0, true);
      const upper = width === 32 ? test.random.u64() << 32n : 0n;
      test.pin(RAX, (value & (width === 32 ? 0xffff_ffffn : -1n)) | upper);
      test.pin(RDX, test.registers[RAX]);
    }
  };
  return [
    ...sizes('xadd', [0x0f, 0xc0], { modrm: 'both', lock: true }),
    ...sizes('cmpxchg', [0x0f, 0xb0], { modrm: 'both', lock: true, prepare: accumulator }),
    form('cmpxchg8b', [0x0f, 0xc7], {
      widths: [32],
      modrm: 'memory',
      digit: 1,
      memoryBytes: 8,
      lock: true,
      prepare: pair,
    }),
    form('cmpxchg16b', [0x0f, 0xc7], {
      widths: [64],
      modrm: 'memory',
      digit: 1,
      memoryBytes: 16,
      align: 16,
      lock: true,
      prepare: pair,
    }),
  ];
}

function flags(): Form[] {
  const bare: [string, number][] = [
    ['clc', 0xf8],
    ['stc', 0xf9],
    ['cmc', 0xf5],
    ['cld', 0xfc],
    ['std', 0xfd],
    ['lahf', 0x9f],
    ['sahf', 0x9e],
    ['nop', 0x90],
  ];
  return bare.map(([name, opcode]) => form(name, [opcode]));
}

/** String instructions, each also with REP or REPE and REPNE. */
function strings(): Form[] {
  const list: [string, number, boolean][] = [
    ['movs', 0xa4, false],
    ['cmps', 0xa6, true],
    ['stos', 0xaa, false],
    ['lods', 0xac, false],
    ['scas', 0xae, true],
  ];
  const prepare =
    (repeated: boolean) =>
    (test: TestCase, { width }: Operands): void => {
      const room = (WINDOW_BYTES / 2) * 8;
      const middle = BigInt(PLACE.WINDOW + WINDOW_BYTES / 2 - 8);
      test.pin(RSI, middle + BigInt(test.random.below(8)));
      test.pin(RDI, middle + BigInt(test.random.below(8)));
      if (repeated) test.pin(RCX, BigInt(test.random.below(Math.min(17, Math.floor(room / width) - 1))));
      // Long runs of equal bytes let comparisons go on for a while.
      if (test.random.chance(60)) test.window.fill(test.random.below(256), 60, 200);
      if (test.random.chance(60)) test.pin(RAX, BigInt(test.window[100]) * 0x0101_0101_0101_0101n);
    };
  /** With 32-bit addresses the upper halves of RSI, RDI and RCX count for nothing. */
  const narrow = (test: TestCase): void => {
    prepare(true)(test, { width: 32, reg: 0, rm: -1, imm: 0n });
    for (const register of [RSI, RDI, RCX]) {
      if (test.random.chance(70)) test.registers[register] |= test.random.u64() << 32n;
    }
  };
  return list.flatMap(([name, opcode, compares]) => [
    ...sizes(name, [opcode], { prepare: prepare(false) }),
    ...sizes(`rep ${name}`, [opcode], { prefix: 0xf3, prepare: prepare(true) }),
    ...(compares ? sizes(`repne ${name}`, [opcode], { prefix: 0xf2, prepare: prepare(true) }) : []),
    form(`rep ${name} 8, 32-bit addresses`, [0xf3, 0x67, opcode], { prepare: narrow }),
    form(`rep ${name}, 32-bit addresses`, [0x67, 0xf3, opcode + 1], { prepare: narrow }),
  ]);
}

const stackWidths = [16, 32];
/** A stack pointer with room on both sides. */
function stack(test: TestCase): void {
  test.pin(RSP, BigInt(test.address(64) + 32));
}

function stackForms(): Form[] {
  const digit = (n: number): Details => ({ widths: stackWidths, modrm: 'both', digit: n, memoryBytes: 8 });
  return [
    form('push r', [0x50], { widths: stackWidths, opcodeRegister: true, prepare: stack }),
    form('pop r', [0x58], { widths: stackWidths, opcodeRegister: true, prepare: stack }),
    form('push imm8', [0x6a], { widths: stackWidths, imm: 1, prepare: stack }),
    form('push imm', [0x68], { widths: stackWidths, imm: 'z', prepare: stack }),
    form('push rm', [0xff], { ...digit(6), prepare: stack }),
    form('pop rm', [0x8f], { ...digit(0), prepare: stack }),
    form('pushf', [0x9c], { widths: stackWidths, prepare: stack, storesTrapFlag: true }),
    form('popf', [0x9d], {
      widths: stackWidths,
      prepare: (test) => {
        stack(test);
        test.poke(Number(test.registers[RSP]), (test.random.u64() & 0xcd5n) | 0x202n);
      },
    }),
    form('leave', [0xc9], {
      widths: stackWidths,
      prepare: (test) => test.pin(RBP, BigInt(test.address(64) + 32)),
    }),
    form('push [rsp + 8]', [0xff, 0x74, 0x24, 8], { prepare: stack }),
    form('pop [rsp + 8]', [0x8f, 0x44, 0x24, 8], { prepare: stack }),
    form('pop [rsp - 8]', [0x8f, 0x44, 0x24, 0xf8], { prepare: stack }),
    form('xchg [rsp], rsp', [0x48, 0x87, 0x24, 0x24], { prepare: stack }),
    ...[0, 1, 3].map((level) =>
      form(`enter, level ${level}`, [0xc8, 24, 0, level], { widths: stackWidths, prepare: enter }),
    ),
  ];
}

/** ENTER copies frame pointers from below RBP and pushes them. */
function enter(test: TestCase): void {
  test.pin(RSP, BigInt(PLACE.WINDOW + WINDOW_BYTES - 64));
  test.pin(RBP, BigInt(PLACE.WINDOW + WINDOW_BYTES - 32));
}

/** Opcodes that 64-bit mode does not have. */
function invalid(): Form[] {
  const opcodes = [0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0xce, 0xd6];
  return [
    ...opcodes.map((opcode) => form(`invalid ${opcode.toString(16)}`, [opcode])),
    form('invalid 82', [0x82], { modrm: 'both', digit: 0, imm: 1, memoryBytes: 1 }),
    form('invalid d4', [0xd4], { imm: 1 }),
    form('invalid d5', [0xd5], { imm: 1 }),
    form('ud2', [0x0f, 0x0b]),
    form('15 bytes', [...Array(14).fill(0x2e), 0x90]),
    form('16 bytes', [...Array(15).fill(0x2e), 0x90]),
    form('15 bytes with immediate', [...Array(10).fill(0x2e), 0xb8, 1, 2, 3, 4]),
    form('16 bytes with immediate', [...Array(11).fill(0x2e), 0xb8, 1, 2, 3, 4]),
    form('lea with a register', [0x8d], { widths: WIDE, modrm: 'register' }),
  ];
}

export const INTEGER_FORMS: readonly Form[] = [
  ...arithmetic(),
  ...unary(),
  ...moves(),
  ...shifts(),
  ...bits(),
  ...exchanges(),
  ...flags(),
  ...strings(),
  ...stackForms(),
  ...invalid(),
];
