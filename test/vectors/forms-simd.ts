/** MMX and SSE to SSE4.2 (Intel SDM volume 2, two- and three-byte opcode maps). */
import type { Form } from './form.ts';

const RAX = 0;
const RDX = 2;
const RDI = 7;
const P66 = 0x66;
const PF2 = 0xf2;
const PF3 = 0xf3;

type Details = Omit<Form, 'name' | 'family' | 'opcode'>;
const hex = (opcode: readonly number[]): string =>
  opcode.map((b) => b.toString(16).padStart(2, '0')).join(' ');

function sse(name: string, prefix: number, opcode: readonly number[], details: Details = {}): Form {
  return {
    name: `${name} (${hex([...(prefix === 0 ? [] : [prefix]), ...opcode])})`,
    family: 'sse',
    opcode,
    prefix,
    modrm: 'both',
    ...details,
  };
}

function mmx(name: string, opcode: readonly number[], details: Details = {}): Form {
  return {
    name: `${name} mm (${hex(opcode)})`,
    family: 'mmx',
    opcode,
    modrm: 'both',
    eight: 'both',
    memoryBytes: 8,
    ...details,
  };
}

/** A full vector in memory, aligned. */
const VECTOR: Details = { memoryBytes: 16, align: 16 };
const bytes = (memoryBytes: number): Details => ({ memoryBytes });

/** Instructions that have an MMX and an SSE2 form: opcodes of the 0F map. */
const INTEGER_PAIRS = [
  0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x74, 0x75, 0x76, 0xd1, 0xd2, 0xd3,
  0xd4, 0xd5, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe8, 0xe9,
  0xea, 0xeb, 0xec, 0xed, 0xee, 0xef, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd,
  0xfe,
];
/** The same for SSSE3, in the 0F 38 map. */
const SSSE3_PAIRS = [
  0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x1c, 0x1d, 0x1e,
];
/** SSE4 without MMX form, in the 0F 38 map. */
const SSE4_VECTORS = [
  0x10, 0x14, 0x15, 0x28, 0x29, 0x2b, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x40, 0x41,
];
/** PUNPCKLxx mm reads 4 bytes of memory only. */
const punpcklow = (opcode: number): Details => (opcode <= 0x62 ? bytes(4) : {});

function integers(): Form[] {
  const extend = [8, 4, 2, 8, 4, 8];
  return [
    ...INTEGER_PAIRS.flatMap((op) => [
      sse('packed', P66, [0x0f, op], VECTOR),
      mmx('packed', [0x0f, op], punpcklow(op)),
    ]),
    sse('punpcklqdq', P66, [0x0f, 0x6c], VECTOR),
    sse('punpckhqdq', P66, [0x0f, 0x6d], VECTOR),
    ...SSSE3_PAIRS.flatMap((op) => [
      sse('packed', P66, [0x0f, 0x38, op], VECTOR),
      mmx('packed', [0x0f, 0x38, op]),
    ]),
    ...SSE4_VECTORS.map((op) => sse('packed', P66, [0x0f, 0x38, op], VECTOR)),
    sse('ptest', P66, [0x0f, 0x38, 0x17], VECTOR),
    sse('movntdqa', P66, [0x0f, 0x38, 0x2a], { ...VECTOR, modrm: 'memory' }),
    ...extend.map((size, i) => sse('pmovsx', P66, [0x0f, 0x38, 0x20 + i], bytes(size))),
    ...extend.map((size, i) => sse('pmovzx', P66, [0x0f, 0x38, 0x30 + i], bytes(size))),
    sse('palignr', P66, [0x0f, 0x3a, 0x0f], { ...VECTOR, imm: 1 }),
    mmx('palignr', [0x0f, 0x3a, 0x0f], { imm: 1 }),
    sse('pblendw', P66, [0x0f, 0x3a, 0x0e], { ...VECTOR, imm: 1 }),
    sse('mpsadbw', P66, [0x0f, 0x3a, 0x42], { ...VECTOR, imm: 1 }),
    ...[P66, PF2, PF3].map((prefix) => sse('pshuf', prefix, [0x0f, 0x70], { ...VECTOR, imm: 1 })),
    mmx('pshufw', [0x0f, 0x70], { imm: 1 }),
    ...shiftsByImmediate(),
    ...strings(),
  ];
}

function shiftsByImmediate(): Form[] {
  const digits: [number, number[]][] = [
    [0x71, [2, 4, 6]],
    [0x72, [2, 4, 6]],
    [0x73, [2, 6]],
  ];
  const details = (digit: number): Details => ({ modrm: 'register', digit, imm: 1 });
  return [
    ...digits.flatMap(([op, list]) =>
      list.flatMap((d) => [
        sse(`shift /${d}`, P66, [0x0f, op], details(d)),
        mmx(`shift /${d}`, [0x0f, op], details(d)),
      ]),
    ),
    sse('psrldq', P66, [0x0f, 0x73], details(3)),
    sse('pslldq', P66, [0x0f, 0x73], details(7)),
  ];
}

/** PCMPESTRx and PCMPISTRx: short texts with zeros in them, lengths near the number of elements. */
function strings(): Form[] {
  const names = ['pcmpestrm', 'pcmpestri', 'pcmpistrm', 'pcmpistri'];
  return names.map((name, n) =>
    sse(name, P66, [0x0f, 0x3a, 0x60 + n], {
      memoryBytes: 16,
      imm: 1,
      widths: [32, 64],
      prepare: (test) => {
        const { random } = test;
        test.pin(RAX, BigInt(random.below(40) - 20));
        test.pin(RDX, BigInt(random.below(40) - 20));
        const letters = random.below(4) + 1;
        const fill = (into: Uint8Array, from: number, to: number): void => {
          for (let i = from; i < to; i++) into[i] = random.chance(6) ? 0 : 0x61 + random.below(letters);
        };
        if (random.chance(85)) {
          fill(test.fxsave, 160, 416);
          fill(test.window, 0, test.window.length);
        }
      },
    }),
  );
}

/** Arithmetic with all four prefixes: packed single, packed double, scalar single, scalar double. */
function floats(): Form[] {
  const four = (name: string, op: number, details: Details = {}): Form[] => [
    sse(`${name}ps`, 0, [0x0f, op], { ...VECTOR, ...details }),
    sse(`${name}pd`, P66, [0x0f, op], { ...VECTOR, ...details }),
    sse(`${name}ss`, PF3, [0x0f, op], { ...bytes(4), ...details }),
    sse(`${name}sd`, PF2, [0x0f, op], { ...bytes(8), ...details }),
  ];
  const two = (name: string, op: number, details: Details = {}): Form[] => [
    sse(`${name}ps`, 0, [0x0f, op], { ...VECTOR, ...details }),
    sse(`${name}pd`, P66, [0x0f, op], { ...VECTOR, ...details }),
  ];
  const arithmetic: [string, number][] = [
    ['sqrt', 0x51],
    ['add', 0x58],
    ['mul', 0x59],
    ['sub', 0x5c],
    ['min', 0x5d],
    ['div', 0x5e],
    ['max', 0x5f],
  ];
  const approximate: Details = { approximate: { bits: 11, kind: 'float32' } };
  return [
    ...arithmetic.flatMap(([name, op]) => four(name, op)),
    ...four('cmp', 0xc2, { imm: 1 }),
    ...['rsqrt', 'rcp'].flatMap((name, i) => [
      sse(`${name}ps`, 0, [0x0f, 0x52 + i], { ...VECTOR, ...approximate }),
      sse(`${name}ss`, PF3, [0x0f, 0x52 + i], { ...bytes(4), ...approximate }),
    ]),
    ...['and', 'andn', 'or', 'xor'].flatMap((name, i) => two(name, 0x54 + i)),
    ...two('unpckl', 0x14),
    ...two('unpckh', 0x15),
    ...two('shuf', 0xc6, { imm: 1 }),
    ...['ucomi', 'comi'].flatMap((name, i) => [
      sse(`${name}ss`, 0, [0x0f, 0x2e + i], bytes(4)),
      sse(`${name}sd`, P66, [0x0f, 0x2e + i], bytes(8)),
    ]),
    ...['hadd', 'hsub'].flatMap((name, i) => [
      sse(`${name}pd`, P66, [0x0f, 0x7c + i], VECTOR),
      sse(`${name}ps`, PF2, [0x0f, 0x7c + i], VECTOR),
    ]),
    sse('addsubpd', P66, [0x0f, 0xd0], VECTOR),
    sse('addsubps', PF2, [0x0f, 0xd0], VECTOR),
    ...[16, 16, 4, 8].map((size, i) =>
      sse(`round ${i}`, P66, [0x0f, 0x3a, 8 + i], { memoryBytes: size, align: size === 16 ? 16 : 1, imm: 1 }),
    ),
    sse('blendps', P66, [0x0f, 0x3a, 0x0c], { ...VECTOR, imm: 1 }),
    sse('blendpd', P66, [0x0f, 0x3a, 0x0d], { ...VECTOR, imm: 1 }),
    sse('dpps', P66, [0x0f, 0x3a, 0x40], { ...VECTOR, imm: 1 }),
    sse('dppd', P66, [0x0f, 0x3a, 0x41], { ...VECTOR, imm: 1 }),
  ];
}

function conversions(): Form[] {
  const gpr: Details = { widths: [32, 64] };
  return [
    sse('cvtps2pd', 0, [0x0f, 0x5a], bytes(8)),
    sse('cvtpd2ps', P66, [0x0f, 0x5a], VECTOR),
    sse('cvtss2sd', PF3, [0x0f, 0x5a], bytes(4)),
    sse('cvtsd2ss', PF2, [0x0f, 0x5a], bytes(8)),
    sse('cvtdq2ps', 0, [0x0f, 0x5b], VECTOR),
    sse('cvtps2dq', P66, [0x0f, 0x5b], VECTOR),
    sse('cvttps2dq', PF3, [0x0f, 0x5b], VECTOR),
    sse('cvtdq2pd', PF3, [0x0f, 0xe6], bytes(8)),
    sse('cvtpd2dq', PF2, [0x0f, 0xe6], VECTOR),
    sse('cvttpd2dq', P66, [0x0f, 0xe6], VECTOR),
    sse('cvtsi2ss', PF3, [0x0f, 0x2a], gpr),
    sse('cvtsi2sd', PF2, [0x0f, 0x2a], gpr),
    ...['cvtt', 'cvt'].flatMap((name, i) => [
      sse(`${name}ss2si`, PF3, [0x0f, 0x2c + i], { ...gpr, memoryBytes: 4 }),
      sse(`${name}sd2si`, PF2, [0x0f, 0x2c + i], { ...gpr, memoryBytes: 8 }),
      { ...sse(`${name}ps2pi`, 0, [0x0f, 0x2c + i], { ...bytes(8), eight: 'reg' }), family: 'mmx' as const },
      { ...sse(`${name}pd2pi`, P66, [0x0f, 0x2c + i], { ...VECTOR, eight: 'reg' }), family: 'mmx' as const },
    ]),
    // With memory, only some processors go to MMX mode.
    { ...sse('cvtpi2ps', 0, [0x0f, 0x2a], { modrm: 'register', eight: 'rm' }), family: 'mmx' },
    { ...sse('cvtpi2pd', P66, [0x0f, 0x2a], { ...bytes(8), eight: 'rm' }), family: 'mmx' },
  ];
}

function moves(): Form[] {
  const load16: [string, number, number][] = [
    ['movups', 0, 0x10],
    ['movupd', P66, 0x10],
    ['movups store', 0, 0x11],
    ['movupd store', P66, 0x11],
    ['movdqu', PF3, 0x6f],
    ['movdqu store', PF3, 0x7f],
  ];
  const aligned: [string, number, number][] = [
    ['movaps', 0, 0x28],
    ['movapd', P66, 0x28],
    ['movaps store', 0, 0x29],
    ['movapd store', P66, 0x29],
    ['movdqa', P66, 0x6f],
    ['movdqa store', P66, 0x7f],
    ['movsldup', PF3, 0x12],
    ['movshdup', PF3, 0x16],
  ];
  const store: Details = { ...VECTOR, modrm: 'memory' };
  const half: Details = { memoryBytes: 8, modrm: 'memory' };
  const register: Details = { modrm: 'register' };
  return [
    ...load16.map(([name, prefix, op]) => sse(name, prefix, [0x0f, op], bytes(16))),
    ...aligned.map(([name, prefix, op]) => sse(name, prefix, [0x0f, op], VECTOR)),
    ...[0x10, 0x11].flatMap((op) => [
      sse('movss', PF3, [0x0f, op], bytes(4)),
      sse('movsd', PF2, [0x0f, op], bytes(8)),
    ]),
    sse('movddup', PF2, [0x0f, 0x12], bytes(8)),
    sse('movlps or movhlps', 0, [0x0f, 0x12], bytes(8)),
    sse('movhps or movlhps', 0, [0x0f, 0x16], bytes(8)),
    ...[0x13, 0x17].map((op) => sse('movlps or movhps store', 0, [0x0f, op], half)),
    ...[0x12, 0x13, 0x16, 0x17].map((op) => sse('movlpd or movhpd', P66, [0x0f, op], half)),
    sse('movntps', 0, [0x0f, 0x2b], store),
    sse('movntpd', P66, [0x0f, 0x2b], store),
    sse('movntdq', P66, [0x0f, 0xe7], store),
    mmx('movntq', [0x0f, 0xe7], { modrm: 'memory' }),
    sse('lddqu', PF2, [0x0f, 0xf0], { memoryBytes: 16, modrm: 'memory' }),
    sse('movmskps', 0, [0x0f, 0x50], register),
    sse('movmskpd', P66, [0x0f, 0x50], register),
    sse('pmovmskb', P66, [0x0f, 0xd7], register),
    mmx('pmovmskb', [0x0f, 0xd7], { modrm: 'register', eight: 'rm' }),
    ...[0x6e, 0x7e].flatMap((op) => [
      sse('movd', P66, [0x0f, op], { widths: [32, 64] }),
      mmx('movd', [0x0f, op], { widths: [32, 64], eight: 'reg', memoryBytes: 8 }),
    ]),
    sse('movq', PF3, [0x0f, 0x7e], bytes(8)),
    sse('movq store', P66, [0x0f, 0xd6], bytes(8)),
    mmx('movq', [0x0f, 0x6f]),
    mmx('movq store', [0x0f, 0x7f]),
    { ...sse('movq2dq', PF3, [0x0f, 0xd6], { modrm: 'register', eight: 'rm' }), family: 'mmx' },
    { ...sse('movdq2q', PF2, [0x0f, 0xd6], { modrm: 'register', eight: 'reg' }), family: 'mmx' },
    { name: 'emms', family: 'mmx', opcode: [0x0f, 0x77] },
    ...insertsAndExtracts(),
    ...maskedMoves(),
  ];
}

function insertsAndExtracts(): Form[] {
  const imm: Details = { imm: 1 };
  return [
    sse('pinsrw', P66, [0x0f, 0xc4], { ...imm, memoryBytes: 2 }),
    mmx('pinsrw', [0x0f, 0xc4], { ...imm, memoryBytes: 2, eight: 'reg' }),
    sse('pextrw', P66, [0x0f, 0xc5], { ...imm, modrm: 'register' }),
    mmx('pextrw', [0x0f, 0xc5], { ...imm, modrm: 'register', eight: 'rm' }),
    sse('pextrb', P66, [0x0f, 0x3a, 0x14], { ...imm, memoryBytes: 1 }),
    sse('pextrw store', P66, [0x0f, 0x3a, 0x15], { ...imm, memoryBytes: 2 }),
    sse('pextrd', P66, [0x0f, 0x3a, 0x16], { ...imm, widths: [32, 64] }),
    sse('extractps', P66, [0x0f, 0x3a, 0x17], { ...imm, memoryBytes: 4 }),
    sse('pinsrb', P66, [0x0f, 0x3a, 0x20], { ...imm, memoryBytes: 1 }),
    sse('insertps', P66, [0x0f, 0x3a, 0x21], { ...imm, memoryBytes: 4 }),
    sse('pinsrd', P66, [0x0f, 0x3a, 0x22], { ...imm, widths: [32, 64] }),
  ];
}

function maskedMoves(): Form[] {
  const prepare: Form['prepare'] = (test) => test.pin(RDI, BigInt(test.address(16)));
  return [
    sse('maskmovdqu', P66, [0x0f, 0xf7], { modrm: 'register', prepare }),
    mmx('maskmovq', [0x0f, 0xf7], { modrm: 'register', prepare }),
  ];
}

/** LDMXCSR with a value that has no reserved bits most of the time. */
function control(): Form[] {
  return [
    sse('ldmxcsr', 0, [0x0f, 0xae], {
      modrm: 'memory',
      digit: 2,
      memoryBytes: 4,
      prepare: (test) => {
        const valid = test.random.chance(85) ? 0xffff : 0xffff_ffff;
        const view = new DataView(test.window.buffer);
        for (let i = 0; i < test.window.length; i += 4) view.setUint32(i, test.random.u32() & valid, true);
        if (valid === 0xffff) for (let i = 2; i < test.window.length; i += 4) view.setUint16(i, 0, true);
      },
      align: 4,
    }),
    sse('stmxcsr', 0, [0x0f, 0xae], { modrm: 'memory', digit: 3, memoryBytes: 4 }),
    ...[5, 6, 7].map((digit) => sse(`fence /${digit}`, 0, [0x0f, 0xae], { modrm: 'register', digit, rm: 0 })),
    ...[0, 1, 2, 3].map((digit) =>
      sse(`prefetch /${digit}`, 0, [0x0f, 0x18], { modrm: 'memory', digit, memoryBytes: 1 }),
    ),
  ];
}

export const SIMD_FORMS: readonly Form[] = [
  ...integers(),
  ...floats(),
  ...conversions(),
  ...moves(),
  ...control(),
];
