/** SSE floating point in every MXCSR mode against the processor that runs the tests. */
import { describe, expect, it } from 'vitest';
import { coreInstance } from '../../../test/support/core-instance.ts';
import { Random, randomF32, randomF64 } from '../../../test/support/fp-operands.ts';
import { canRunNative, runNative } from '../../../test/support/native-elf.ts';
import { CPU, STATE } from '../layout.ts';

const SEED = 0x51b3a77;
const CASES = 10_000;
/**
 * Input: a at 0, b at 16, MXCSR at 32. Output: XMM0 at 0, RAX at 16, MXCSR at 24; after an unmasked exception
 * the MXCSR that it left at 28.
 */
const RECORD = 48;
const INPUT = 0x20_0000;
const OUTPUT = 0x30_0000;
/** Addresses of the operands and the result of the case at hand. */
let operandA = INPUT;
let operandB = INPUT + 16;
let result = OUTPUT;
/** Differences reported per instruction. */
const SHOWN = 5;
const ALL_MASKED = 0x1f80;
/** CR4: unmasked exceptions raise #XM. */
const OSXMMEXCPT = 0x400;

const core = coreInstance();
const { view } = core;
const a64 = (): bigint => view.getBigInt64(operandA, true);
const b64 = (): bigint => view.getBigInt64(operandB, true);
const a32 = (): number => view.getInt32(operandA, true);
const b32 = (): number => view.getInt32(operandB, true);

/** An instruction on XMM0 (a) and XMM1 (b), and the calls that stand for it in the emulator. */
interface Case {
  readonly name: string;
  readonly code: readonly number[];
  /** Element type of the operands. */
  readonly type: 'f64' | 'f32' | 'int';
  readonly emulate: () => void;
}

/** Machine code of the loop over all records; RCX counts them. */
function recordLoop(instruction: readonly number[]): number[] {
  const body = [
    ...[0x0f, 0x10, 0x06], // movups xmm0, [rsi]
    ...[0x0f, 0x10, 0x4e, 16], // movups xmm1, [rsi + 16]
    ...[0x31, 0xc0], // xor eax, eax
    ...[0x0f, 0xae, 0x56, 32], // ldmxcsr [rsi + 32]
    ...instruction,
    ...[0x0f, 0xae, 0x5f, 24], // stmxcsr [rdi + 24]
    ...[0x0f, 0x11, 0x07], // movups [rdi], xmm0
    ...[0x48, 0x89, 0x47, 16], // mov [rdi + 16], rax
    ...[0x48, 0x83, 0xc6, RECORD], // add rsi, RECORD
    ...[0x48, 0x83, 0xc7, RECORD], // add rdi, RECORD
    ...[0xff, 0xc9], // dec ecx
  ];
  return [0xb9, CASES & 0xff, CASES >> 8, 0, 0, ...body, 0x75, -(body.length + 2) & 0xff, 0xc3];
}

/**
 * The loop after a signal handler for SIGFPE has been set up. The handler stores the MXCSR of the faulting
 * instruction at 28 of the output record, masks all exceptions and skips the instruction.
 */
function nativeLoop(instruction: readonly number[]): Uint8Array {
  const loop = recordLoop(instruction);
  // void handler(int, siginfo_t *, ucontext_t *): gregs at 40 (RDI 104, RIP 168), fpregs pointer at 224.
  const handler = [
    ...[0x48, 0x8b, 0x82, 224, 0, 0, 0], // mov rax, [rdx + 224]
    ...[0x8b, 0x48, 24], // mov ecx, [rax + 24]
    ...[0x4c, 0x8b, 0x42, 104], // mov r8, [rdx + 104]
    ...[0x41, 0x89, 0x48, 28], // mov [r8 + 28], ecx
    ...[0xc7, 0x40, 24, 0x80, 0x1f, 0, 0], // mov dword [rax + 24], 0x1f80
    ...[0x48, 0x83, 0x82, 168, 0, 0, 0, instruction.length], // add qword [rdx + 168], length
    0xc3,
  ];
  const restorer = [0xb8, 15, 0, 0, 0, 0x0f, 0x05]; // mov eax, SYS_rt_sigreturn; syscall
  const sigaction = [
    ...[0xb8, 4, 0, 0, 0x44], // mov eax, SA_SIGINFO | SA_RESTORER | SA_NODEFER
    0x50, // push rax
    ...[0x41, 0x50], // push r8: the handler
    ...[0x49, 0x89, 0xfc], // mov r12, rdi
    ...[0x49, 0x89, 0xf5], // mov r13, rsi
    ...[0xb8, 13, 0, 0, 0], // mov eax, SYS_rt_sigaction
    ...[0xbf, 8, 0, 0, 0], // mov edi, SIGFPE
    ...[0x48, 0x89, 0xe6], // mov rsi, rsp
    ...[0x31, 0xd2], // xor edx, edx
    ...[0x41, 0xba, 8, 0, 0, 0], // mov r10d, 8
    ...[0x0f, 0x05], // syscall
    ...[0x4c, 0x89, 0xe7], // mov rdi, r12
    ...[0x4c, 0x89, 0xee], // mov rsi, r13
    ...[0x48, 0x83, 0xc4, 32], // add rsp, 32
  ];
  const LEA = 7;
  // After the lea of the restorer come push, lea of the handler, the rest of the set-up and the loop.
  const afterRestorerLea = 1 + LEA + sigaction.length + loop.length;
  const afterHandlerLea = sigaction.length + loop.length;
  const low = (value: number): number[] => [value & 0xff, value >> 8, 0, 0];
  return new Uint8Array([
    ...[0x6a, 0], // push 0: the signal mask
    ...[0x48, 0x8d, 0x05, ...low(afterRestorerLea)], // lea rax, [restorer]
    0x50, // push rax
    ...[0x4c, 0x8d, 0x05, ...low(afterHandlerLea + restorer.length)], // lea r8, [handler]
    ...sigaction,
    ...loop,
    ...restorer,
    ...handler,
  ]);
}

function exponentOf(bits: bigint, type: Case['type']): number {
  if (type === 'f64') return (Number(bits >> 52n) & 0x7ff) - 1023;
  return (Number(bits >> 23n) & 0xff) - 127;
}

function putOperands(random: Random, to: DataView, at: number, type: Case['type']): void {
  const size = type === 'f64' ? 8 : 4;
  for (let i = 0; i < 16; i += size) {
    if (type === 'f64') {
      const a = randomF64(random);
      to.setBigUint64(at + i, a, true);
      to.setBigUint64(at + 16 + i, randomF64(random, exponentOf(a, type)), true);
    } else if (type === 'f32') {
      const a = randomF32(random);
      to.setUint32(at + i, a, true);
      to.setUint32(at + 16 + i, randomF32(random, exponentOf(BigInt(a), type)), true);
    } else {
      to.setInt32(at + i, random.u32() >> random.below(32), true);
      to.setInt32(at + 16 + i, random.u32() >> random.below(32), true);
    }
  }
}

const recordsByType = new Map<Case['type'], Uint8Array>();

/** The same records for every instruction with this type of operands. */
function randomRecords(seed: number, type: Case['type']): Uint8Array {
  const known = recordsByType.get(type);
  if (known) return known;
  const random = new Random(seed);
  const bytes = new Uint8Array(CASES * RECORD);
  const to = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += RECORD) {
    putOperands(random, to, at, type);
    const zeroing = random.pick([0, 0, 0x40, 0x8000, 0x8040]);
    const masks = random.below(4) ? ALL_MASKED : random.below(64) << 7;
    to.setUint32(at + 32, masks | (random.below(4) << 13) | zeroing, true);
  }
  recordsByType.set(type, bytes);
  return bytes;
}

const hex = (bytes: Uint8Array, from: number, length: number): string =>
  Buffer.from(bytes.subarray(from, from + length))
    .reverse()
    .toString('hex');

/** Runs the emulator's side of one record. */
function emulateRecord(emulate: () => void, at: number): void {
  operandA = INPUT + at;
  operandB = operandA + 16;
  result = OUTPUT + at;
  core.bytes.copyWithin(result, operandA, operandA + 16);
  view.setUint32(CPU + STATE.MXCSR, view.getUint32(operandA + 32, true), true);
  view.setInt32(CPU + STATE.FAULT_VECTOR, -1, true);
  view.setUint32(CPU + STATE.CR4, OSXMMEXCPT, true);
  emulate();
  const mxcsr = view.getUint32(CPU + STATE.MXCSR, true);
  if (view.getInt32(CPU + STATE.FAULT_VECTOR, true) < 0) {
    view.setUint32(result + 24, mxcsr, true);
    return;
  }
  core.bytes.copyWithin(result, operandA, operandA + 16);
  core.bytes.fill(0, result + 16, result + 24);
  view.setUint32(result + 24, ALL_MASKED, true);
  view.setUint32(result + 28, mxcsr, true);
}

/** Runs one instruction on both sides and reports the first differences as text. */
function compare({ code, type, emulate }: Case, seed: number): string[] {
  const input = randomRecords(seed, type);
  const expected = runNative(nativeLoop(code), input);
  core.bytes.set(input, INPUT);
  core.bytes.fill(0, OUTPUT, OUTPUT + input.length);
  for (let at = 0; at < input.length; at += RECORD) emulateRecord(emulate, at);
  const results = core.bytes.slice(OUTPUT, OUTPUT + input.length);
  const differences: string[] = [];
  if (Buffer.compare(results, expected) === 0) return differences;
  for (let at = 0; at < input.length; at += RECORD) {
    const [given, got, want] = [input, results, expected].map((bytes) => bytes.slice(at, at + RECORD));
    if (Buffer.compare(got, want) === 0) continue;
    const show = (bytes: Uint8Array): string =>
      `${hex(bytes, 0, 16)} ${hex(bytes, 16, 8)} ${hex(bytes, 24, 4)} ${hex(bytes, 28, 4)}`;
    const operands = `a ${hex(given, 0, 16)} b ${hex(given, 16, 16)} mxcsr ${hex(given, 32, 4)}`;
    differences.push(`${operands}\n   got ${show(got)}\n  want ${show(want)}`);
    if (differences.length === SHOWN) break;
  }
  return differences;
}

/** Stores a scalar result in the low part of XMM0. */
const put = (value: number | bigint): void => {
  if (typeof value === 'bigint') view.setBigInt64(result, value, true);
  else view.setInt32(result, value, true);
};
/** Stores a result in RAX. */
const putRax = (value: number | bigint, bits: number): void =>
  view.setBigUint64(result + 16, BigInt.asUintN(bits, BigInt(value)), true);

/** ZF, PF and CF from the lazy flags, in their places in EFLAGS; CF = OF must hold for OF = 0. */
function lazyFlags(): bigint {
  const value = view.getBigInt64(CPU + STATE.FLAG_RESULT, true);
  const carry = view.getBigUint64(CPU + STATE.FLAG_CARRY, true);
  let parity = 1n ^ (carry & 1n);
  for (let i = 0n; i < 8n; i++) parity ^= (value >> i) & 1n;
  const sign = BigInt(value < 0n) ^ ((carry >> 1n) & 1n);
  const overflow = (carry >> 63n) ^ ((carry >> 62n) & 1n);
  const adjust = (carry >> 3n) & 1n;
  return (
    (carry >> 63n) |
    (parity << 2n) |
    (adjust << 4n) |
    (BigInt(value === 0n) << 6n) |
    (sign << 7n) |
    (overflow << 11n)
  );
}

/** pushfq; pop rax; and eax, 0x8d5 */
const FLAGS_TO_RAX = [0x9c, 0x58, 0x25, 0xd5, 0x08, 0, 0];

/** Operations of sseF64 and its kin by number, with the opcode byte. */
const OPERATIONS: readonly (readonly [string, number])[] = [
  ['add', 0x58],
  ['sub', 0x5c],
  ['mul', 0x59],
  ['div', 0x5e],
  ['min', 0x5d],
  ['max', 0x5f],
  ['sqrt', 0x51],
];

const arithmetic: Case[] = OPERATIONS.flatMap(([name, opcode], op): Case[] => [
  {
    name: `${name}sd`,
    code: [0xf2, 0x0f, opcode, 0xc1],
    type: 'f64',
    emulate: () => put(core.call('sseF64', op, a64(), b64())),
  },
  {
    name: `${name}ss`,
    code: [0xf3, 0x0f, opcode, 0xc1],
    type: 'f32',
    emulate: () => put(core.call('sseF32', op, a32(), b32())),
  },
  {
    name: `${name}pd`,
    code: [0x66, 0x0f, opcode, 0xc1],
    type: 'f64',
    emulate: () => core.call('ssePackedF64', op, result, operandA, operandB),
  },
  {
    name: `${name}ps`,
    code: [0x0f, opcode, 0xc1],
    type: 'f32',
    emulate: () => core.call('ssePackedF32', op, result, operandA, operandB),
  },
]);

const comparisons: Case[] = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((predicate): Case[] => [
  {
    name: `cmpsd ${predicate}`,
    code: [0xf2, 0x0f, 0xc2, 0xc1, predicate],
    type: 'f64',
    emulate: () => put(core.call('sseCompareF64', predicate, a64(), b64())),
  },
  {
    name: `cmpss ${predicate}`,
    code: [0xf3, 0x0f, 0xc2, 0xc1, predicate],
    type: 'f32',
    emulate: () => put(core.call('sseCompareF32', predicate, a32(), b32())),
  },
  {
    name: `cmppd ${predicate}`,
    code: [0x66, 0x0f, 0xc2, 0xc1, predicate],
    type: 'f64',
    emulate: () => core.call('sseComparePackedF64', predicate, result, operandA, operandB),
  },
  {
    name: `cmpps ${predicate}`,
    code: [0x0f, 0xc2, 0xc1, predicate],
    type: 'f32',
    emulate: () => core.call('sseComparePackedF32', predicate, result, operandA, operandB),
  },
]);

const flagComparisons: Case[] = ['ucomis', 'comis'].flatMap((name, signalling): Case[] => [
  {
    name: `${name}d`,
    code: [0x66, 0x0f, 0x2e + signalling, 0xc1, ...FLAGS_TO_RAX],
    type: 'f64',
    emulate: () => {
      core.call('comiF64', a64(), b64(), signalling);
      putRax(lazyFlags(), 64);
    },
  },
  {
    name: `${name}s`,
    code: [0x0f, 0x2e + signalling, 0xc1, ...FLAGS_TO_RAX],
    type: 'f32',
    emulate: () => {
      core.call('comiF32', a32(), b32(), signalling);
      putRax(lazyFlags(), 64);
    },
  },
]);

/** Conversions of XMM1 to an integer register, without and with REX.W. */
const toInteger: Case[] = [32, 64].flatMap((bits) =>
  [0, 1].flatMap((truncate): Case[] => {
    const rex = bits === 64 ? [0x48] : [];
    const opcode = [0x0f, truncate ? 0x2c : 0x2d, 0xc1];
    return [
      {
        name: `cvt${truncate ? 't' : ''}sd2si ${bits}`,
        code: [0xf2, ...rex, ...opcode],
        type: 'f64',
        emulate: () => putRax(core.call('sseF64ToInt', b64(), bits, truncate), bits),
      },
      {
        name: `cvt${truncate ? 't' : ''}ss2si ${bits}`,
        code: [0xf3, ...rex, ...opcode],
        type: 'f32',
        emulate: () => putRax(core.call('sseF32ToInt', b32(), bits, truncate), bits),
      },
    ];
  }),
);

const conversions: Case[] = [
  {
    name: 'cvtsd2ss',
    code: [0xf2, 0x0f, 0x5a, 0xc1],
    type: 'f64',
    emulate: () => put(core.call('sseF64ToF32', b64())),
  },
  {
    name: 'cvtss2sd',
    code: [0xf3, 0x0f, 0x5a, 0xc1],
    type: 'f32',
    emulate: () => put(core.call('sseF32ToF64', b32())),
  },
  {
    name: 'cvtsi2sd 32',
    code: [0xf2, 0x0f, 0x2a, 0x46, 16],
    type: 'int',
    emulate: () => put(core.call('sseIntToF64', BigInt(b32()))),
  },
  {
    name: 'cvtsi2ss 32',
    code: [0xf3, 0x0f, 0x2a, 0x46, 16],
    type: 'int',
    emulate: () => put(core.call('sseIntToF32', BigInt(b32()))),
  },
  {
    name: 'cvtsi2sd 64',
    code: [0xf2, 0x48, 0x0f, 0x2a, 0x46, 16],
    type: 'int',
    emulate: () => put(core.call('sseIntToF64', b64())),
  },
  {
    name: 'cvtsi2ss 64',
    code: [0xf3, 0x48, 0x0f, 0x2a, 0x46, 16],
    type: 'int',
    emulate: () => put(core.call('sseIntToF32', b64())),
  },
];

/** Packed conversions by their number, of XMM1 to XMM0. */
const packedConversions: Case[] = (
  [
    ['cvtdq2pd', [0xf3, 0x0f, 0xe6], 'int'],
    ['cvtdq2ps', [0x0f, 0x5b], 'int'],
    ['cvtpd2dq', [0xf2, 0x0f, 0xe6], 'f64'],
    ['cvttpd2dq', [0x66, 0x0f, 0xe6], 'f64'],
    ['cvtps2dq', [0x66, 0x0f, 0x5b], 'f32'],
    ['cvttps2dq', [0xf3, 0x0f, 0x5b], 'f32'],
    ['cvtps2pd', [0x0f, 0x5a], 'f32'],
    ['cvtpd2ps', [0x66, 0x0f, 0x5a], 'f64'],
  ] as const
).map(([name, code, type], kind) => ({
  name,
  code: [...code, 0xc1],
  type,
  emulate: () => core.call('ssePackedConvert', kind, result, operandB),
}));

/** MMX conversions: the MMX register is stored to the low half of XMM0's place. */
const mmxConversions: Case[] = [
  {
    name: 'cvtpi2ps',
    code: [0x0f, 0x2a, 0x46, 16, 0x0f, 0x77],
    type: 'int',
    emulate: () => core.call('ssePackedConvert', 8, result, operandB),
  },
  ...(
    [
      ['cvtps2pi', [0x0f, 0x2d], 'f32', 9],
      ['cvttps2pi', [0x0f, 0x2c], 'f32', 10],
      ['cvtpd2pi', [0x66, 0x0f, 0x2d], 'f64', 11],
      ['cvttpd2pi', [0x66, 0x0f, 0x2c], 'f64', 12],
    ] as const
  ).map(
    ([name, code, type, kind]): Case => ({
      name,
      // cvt… mm0, xmm1; movq rax, mm0; emms
      code: [...code, 0xc1, 0x48, 0x0f, 0x7e, 0xc0, 0x0f, 0x77],
      type,
      emulate: () => {
        core.call('ssePackedConvert', kind, result + 16, operandB);
      },
    }),
  ),
];

const SELECTED_IMMEDIATES = [0x31, 0x71, 0xf1, 0xff, 0x5a, 0xa3, 0x0f];

const others: Case[] = [
  ...[0, 1].flatMap((op): Case[] => [
    {
      name: op ? 'hsubpd' : 'haddpd',
      code: [0x66, 0x0f, 0x7c + op, 0xc1],
      type: 'f64',
      emulate: () => core.call('sseHorizontalF64', op, result, operandA, operandB),
    },
    {
      name: op ? 'hsubps' : 'haddps',
      code: [0xf2, 0x0f, 0x7c + op, 0xc1],
      type: 'f32',
      emulate: () => core.call('sseHorizontalF32', op, result, operandA, operandB),
    },
  ]),
  {
    name: 'addsubpd',
    code: [0x66, 0x0f, 0xd0, 0xc1],
    type: 'f64',
    emulate: () => core.call('sseAddSubF64', result, operandA, operandB),
  },
  {
    name: 'addsubps',
    code: [0xf2, 0x0f, 0xd0, 0xc1],
    type: 'f32',
    emulate: () => core.call('sseAddSubF32', result, operandA, operandB),
  },
  ...SELECTED_IMMEDIATES.flatMap((imm): Case[] => [
    {
      name: `dpps 0x${imm.toString(16)}`,
      code: [0x66, 0x0f, 0x3a, 0x40, 0xc1, imm],
      type: 'f32',
      emulate: () => core.call('sseDotF32', imm, result, operandA, operandB),
    },
    {
      name: `dppd 0x${imm.toString(16)}`,
      code: [0x66, 0x0f, 0x3a, 0x41, 0xc1, imm],
      type: 'f64',
      emulate: () => core.call('sseDotF64', imm, result, operandA, operandB),
    },
  ]),
  ...[0, 1, 2, 3, 4, 8, 9, 10, 11, 12].flatMap((imm): Case[] => [
    {
      name: `roundsd ${imm}`,
      code: [0x66, 0x0f, 0x3a, 0x0b, 0xc1, imm],
      type: 'f64',
      emulate: () => put(core.call('sseRoundF64', imm, b64())),
    },
    {
      name: `roundss ${imm}`,
      code: [0x66, 0x0f, 0x3a, 0x0a, 0xc1, imm],
      type: 'f32',
      emulate: () => put(core.call('sseRoundF32', imm, b32())),
    },
    {
      name: `roundpd ${imm}`,
      code: [0x66, 0x0f, 0x3a, 0x09, 0xc1, imm],
      type: 'f64',
      emulate: () => core.call('sseRoundPackedF64', imm, result, operandB),
    },
    {
      name: `roundps ${imm}`,
      code: [0x66, 0x0f, 0x3a, 0x08, 0xc1, imm],
      type: 'f32',
      emulate: () => core.call('sseRoundPackedF32', imm, result, operandB),
    },
  ]),
];

const groups = {
  arithmetic,
  comparisons,
  flagComparisons,
  toInteger,
  conversions,
  packedConversions,
  mmxConversions,
  others,
};

describe.skipIf(!canRunNative).each(Object.entries(groups))('%s equals the processor', (_, cases) => {
  it.each(cases)('$name', (instruction) => {
    expect(compare(instruction, SEED).join('\n'), `seed ${SEED}`).toBe('');
  });
});
