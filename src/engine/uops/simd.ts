/** Vector integer micro-ops: A = A op B on 128 bits, and moves between vectors, registers and memory. */
import { CPU, STATE } from '../layout.ts';
import { defineUop } from './define.ts';
import type { Emitter, Push, Width } from './emitter.ts';

const GP = 13;
const SCRATCH = CPU + STATE.SCRATCH;

// ---- moves ----

/** Loads: `size` bytes into the low part, the rest zero. `aligned` ones fault on a misaligned address. */
const LOADS = [
  ['v.load128', 16, 'v128.load', false],
  ['v.load128a', 16, 'v128.load', true],
  ['v.load64', 8, 'v128.load64_zero', false],
  ['v.load32', 4, 'v128.load32_zero', false],
] as const;
for (const [name, size, load, aligned] of LOADS) {
  defineUop(name, (e) => {
    vectorAddress(e, aligned);
    e.readPointer(size);
    e.w.memory(load);
    e.w.set(e.v128[0]);
    e.setXmm('a', () => e.w.get(e.v128[0]));
  });
}

/** Pushes the operand's address; #GP(0) if it must be aligned and is not. */
function vectorAddress(e: Emitter, aligned: boolean): void {
  const address = e.i64[0];
  e.address();
  if (!aligned) return;
  e.w.tee(address);
  e.w.i64(15n);
  e.w.op('i64.and');
  e.w.i64(0n);
  e.w.op('i64.ne');
  e.w.if();
  e.fault(GP, 0);
  e.w.end();
  e.w.get(address);
}

/** Stores of B: 128 bits, or a 64 or 32-bit lane. */
const STORES: readonly (readonly [string, number, boolean, number])[] = [
  ['v.store128', 16, false, 0],
  ['v.store128a', 16, true, 0],
  ['v.store64', 8, false, 0],
  ['v.store64high', 8, false, 1],
  ['v.store32', 4, false, 0],
];
for (const [name, size, aligned, lane] of STORES) {
  defineUop(name, (e) => {
    vectorAddress(e, aligned);
    e.writePointer(size, false);
    e.xmm('b');
    if (size === 16) e.w.memory('v128.store');
    else {
      e.w.lane(size === 8 ? 'i64x2.extract_lane' : 'i32x4.extract_lane', lane);
      e.w.memory(size === 8 ? 'i64.store' : 'i32.store');
    }
    e.commit();
  });
}
defineUop('v.mov', (e) => e.setXmm('a', () => e.xmm('b')));
/** Low lane of B into A, the rest of A stays (MOVSS, MOVSD between registers). */
for (const [name, shape] of [
  ['v.mov32', 'i32x4'],
  ['v.mov64', 'i64x2'],
] as const) {
  defineUop(name, (e) =>
    e.setXmm('a', () => {
      e.xmm('a');
      e.xmm('b');
      e.w.lane(`${shape}.extract_lane`, 0);
      e.w.lane(`${shape}.replace_lane`, 0);
    }),
  );
}
/** 64-bit lanes: A.to = B.from, the other lane of A stays, or becomes 0 for `v.movq`. */
for (const to of [0, 1]) {
  for (const from of [0, 1]) {
    defineUop(`v.lane64.${to}.${from}`, (e) =>
      e.setXmm('a', () => {
        e.xmm('a');
        e.xmm('b');
        e.w.lane('i64x2.extract_lane', from);
        e.w.lane('i64x2.replace_lane', to);
      }),
    );
  }
}
defineUop('v.movq', (e) =>
  e.setXmm('a', () => {
    e.w.v128(0n, 0n);
    e.xmm('b');
    e.w.lane('i64x2.extract_lane', 0);
    e.w.lane('i64x2.replace_lane', 0);
  }),
);
/** MOVD and MOVQ: a general register into the low lane (rest 0), and back. */
for (const width of [32, 64] as const) {
  defineUop(`v.fromreg${width}`, (e) =>
    e.setXmm('a', () => {
      e.w.v128(0n, 0n);
      e.reg('b', width);
      e.w.lane('i64x2.replace_lane', 0);
    }),
  );
  defineUop(`v.toreg${width}`, (e) =>
    e.setReg('a', width, () => {
      e.xmm('b');
      e.w.lane('i64x2.extract_lane', 0);
    }),
  );
}

// ---- lane-wise operations ----

function binary(name: string, compute: (e: Emitter) => void): void {
  defineUop(`v.${name}`, (e) => e.setXmm('a', () => compute(e)));
}
const operands = (e: Emitter): void => {
  e.xmm('a');
  e.xmm('b');
};
const direct = (op: string) => (e: Emitter) => {
  operands(e);
  e.w.op(op);
};
/** With the operands exchanged: wasm's first is x86's second. */
const swapped = (op: string) => (e: Emitter) => {
  e.xmm('b');
  e.xmm('a');
  e.w.op(op);
};

const DIRECT: Readonly<Record<string, string>> = {
  paddb: 'i8x16.add',
  paddw: 'i16x8.add',
  paddd: 'i32x4.add',
  paddq: 'i64x2.add',
  psubb: 'i8x16.sub',
  psubw: 'i16x8.sub',
  psubd: 'i32x4.sub',
  psubq: 'i64x2.sub',
  paddsb: 'i8x16.add_sat_s',
  paddsw: 'i16x8.add_sat_s',
  paddusb: 'i8x16.add_sat_u',
  paddusw: 'i16x8.add_sat_u',
  psubsb: 'i8x16.sub_sat_s',
  psubsw: 'i16x8.sub_sat_s',
  psubusb: 'i8x16.sub_sat_u',
  psubusw: 'i16x8.sub_sat_u',
  pmullw: 'i16x8.mul',
  pmulld: 'i32x4.mul',
  pmaddwd: 'i32x4.dot_i16x8_s',
  pminub: 'i8x16.min_u',
  pmaxub: 'i8x16.max_u',
  pminsw: 'i16x8.min_s',
  pmaxsw: 'i16x8.max_s',
  pminsb: 'i8x16.min_s',
  pmaxsb: 'i8x16.max_s',
  pminuw: 'i16x8.min_u',
  pmaxuw: 'i16x8.max_u',
  pminsd: 'i32x4.min_s',
  pmaxsd: 'i32x4.max_s',
  pminud: 'i32x4.min_u',
  pmaxud: 'i32x4.max_u',
  pavgb: 'i8x16.avgr_u',
  pavgw: 'i16x8.avgr_u',
  pand: 'v128.and',
  por: 'v128.or',
  pxor: 'v128.xor',
  pcmpeqb: 'i8x16.eq',
  pcmpeqw: 'i16x8.eq',
  pcmpeqd: 'i32x4.eq',
  pcmpeqq: 'i64x2.eq',
  pcmpgtb: 'i8x16.gt_s',
  pcmpgtw: 'i16x8.gt_s',
  pcmpgtd: 'i32x4.gt_s',
  pcmpgtq: 'i64x2.gt_s',
  packsswb: 'i8x16.narrow_i16x8_s',
  packuswb: 'i8x16.narrow_i16x8_u',
  packssdw: 'i16x8.narrow_i32x4_s',
  packusdw: 'i16x8.narrow_i32x4_u',
};
for (const [name, op] of Object.entries(DIRECT)) binary(name, direct(op));
/** B and not A. */
binary('pandn', swapped('v128.andnot'));

const UNARY: Readonly<Record<string, readonly string[]>> = {
  pabsb: ['i8x16.abs'],
  pabsw: ['i16x8.abs'],
  pabsd: ['i32x4.abs'],
  pmovsxbw: ['i16x8.extend_low_i8x16_s'],
  pmovsxbd: ['i16x8.extend_low_i8x16_s', 'i32x4.extend_low_i16x8_s'],
  pmovsxbq: ['i16x8.extend_low_i8x16_s', 'i32x4.extend_low_i16x8_s', 'i64x2.extend_low_i32x4_s'],
  pmovsxwd: ['i32x4.extend_low_i16x8_s'],
  pmovsxwq: ['i32x4.extend_low_i16x8_s', 'i64x2.extend_low_i32x4_s'],
  pmovsxdq: ['i64x2.extend_low_i32x4_s'],
  pmovzxbw: ['i16x8.extend_low_i8x16_u'],
  pmovzxbd: ['i16x8.extend_low_i8x16_u', 'i32x4.extend_low_i16x8_u'],
  pmovzxbq: ['i16x8.extend_low_i8x16_u', 'i32x4.extend_low_i16x8_u', 'i64x2.extend_low_i32x4_u'],
  pmovzxwd: ['i32x4.extend_low_i16x8_u'],
  pmovzxwq: ['i32x4.extend_low_i16x8_u', 'i64x2.extend_low_i32x4_u'],
  pmovzxdq: ['i64x2.extend_low_i32x4_u'],
};
for (const [name, ops] of Object.entries(UNARY)) {
  binary(name, (e) => {
    e.xmm('b');
    for (const op of ops) e.w.op(op);
  });
}

/** Byte numbers 0…15 are A's, 16…31 B's. */
const shuffled = (lanes: readonly number[]) => (e: Emitter) => {
  operands(e);
  e.w.shuffle(lanes);
};
/** Interleaves elements of `size` bytes from the low or high halves. */
function interleave(size: number, high: boolean): number[] {
  const lanes: number[] = [];
  for (let at = high ? 8 : 0; lanes.length < 16; at += size) {
    for (const from of [0, 16]) for (let n = 0; n < size; n++) lanes.push(from + at + n);
  }
  return lanes;
}
for (const [suffix, size] of [
  ['bw', 1],
  ['wd', 2],
  ['dq', 4],
  ['qdq', 8],
] as const) {
  binary(`punpckl${suffix}`, shuffled(interleave(size, false)));
  binary(`punpckh${suffix}`, shuffled(interleave(size, true)));
}
binary('movddup', (e) => {
  e.xmm('b');
  e.xmm('b');
  e.w.shuffle([0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7]);
});
for (const [name, odd] of [
  ['movsldup', 0],
  ['movshdup', 4],
] as const) {
  binary(name, (e) => {
    e.xmm('b');
    e.xmm('b');
    e.w.shuffle([0, 0, 8, 8].flatMap((at) => [0, 1, 2, 3].map((n) => at + odd + n)));
  });
}

/** Even or odd elements of `size` bytes of A, then of B. */
function everySecond(size: number, odd: boolean): number[] {
  const lanes: number[] = [];
  for (let at = odd ? size : 0; at < 32; at += 2 * size) {
    for (let n = 0; n < size; n++) lanes.push(at + n);
  }
  return lanes;
}
for (const [name, size, op] of [
  ['phaddw', 2, 'i16x8.add'],
  ['phaddd', 4, 'i32x4.add'],
  ['phaddsw', 2, 'i16x8.add_sat_s'],
  ['phsubw', 2, 'i16x8.sub'],
  ['phsubd', 4, 'i32x4.sub'],
  ['phsubsw', 2, 'i16x8.sub_sat_s'],
] as const) {
  binary(name, (e) => {
    shuffled(everySecond(size, false))(e);
    shuffled(everySecond(size, true))(e);
    e.w.op(op);
  });
}

/** High words of 16 × 16-bit products. */
for (const [name, sign] of [
  ['pmulhw', 's'],
  ['pmulhuw', 'u'],
] as const) {
  binary(name, (e) => {
    direct(`i32x4.extmul_low_i16x8_${sign}`)(e);
    direct(`i32x4.extmul_high_i16x8_${sign}`)(e);
    e.w.shuffle(everySecond(2, true));
  });
}
/** Even doublewords multiplied to quadwords. */
for (const [name, sign] of [
  ['pmuludq', 'u'],
  ['pmuldq', 's'],
] as const) {
  binary(name, (e) => {
    for (const field of ['a', 'b'] as const) {
      e.xmm(field);
      e.xmm(field);
      e.w.shuffle(everySecond(4, false));
    }
    e.w.op(`i64x2.extmul_low_i32x4_${sign}`);
  });
}
binary('psadbw', (e) => {
  const { w } = e;
  const sum = e.v128[0];
  direct('i8x16.sub_sat_u')(e);
  swapped('i8x16.sub_sat_u')(e);
  w.op('v128.or');
  w.op('i16x8.extadd_pairwise_i8x16_u');
  w.op('i32x4.extadd_pairwise_i16x8_u');
  w.tee(sum);
  w.get(sum);
  w.i32(32);
  w.op('i64x2.shr_u');
  w.op('i64x2.add');
  w.v128(0xffffn, 0xffffn);
  w.op('v128.and');
});
/** Unsigned bytes of A times signed bytes of B, neighbours added with saturation. */
binary('pmaddubsw', (e) => {
  const { w } = e;
  e.xmm('a');
  w.v128(0x00ff_00ff_00ff_00ffn, 0x00ff_00ff_00ff_00ffn);
  w.op('v128.and');
  e.xmm('b');
  w.i32(8);
  w.op('i16x8.shl');
  w.i32(8);
  w.op('i16x8.shr_s');
  w.op('i16x8.mul');
  e.xmm('a');
  w.i32(8);
  w.op('i16x8.shr_u');
  e.xmm('b');
  w.i32(8);
  w.op('i16x8.shr_s');
  w.op('i16x8.mul');
  w.op('i16x8.add_sat_s');
});
/** As wasm's q15mulr, except that -1 * -1 is not saturated. */
binary('pmulhrsw', (e) => {
  const { w } = e;
  const lowest = 0x8000_8000_8000_8000n;
  direct('i16x8.q15mulr_sat_s')(e);
  for (const field of ['a', 'b'] as const) {
    e.xmm(field);
    w.v128(lowest, lowest);
    w.op('i16x8.eq');
  }
  w.op('v128.and');
  w.op('v128.xor');
});
for (const [name, shape] of [
  ['psignb', 'i8x16'],
  ['psignw', 'i16x8'],
  ['psignd', 'i32x4'],
] as const) {
  // negative B negates, zero B clears
  binary(name, (e) => {
    const { w } = e;
    e.xmm('a');
    w.op(`${shape}.neg`);
    e.xmm('a');
    e.xmm('b');
    w.v128(0n, 0n);
    w.op(`${shape}.lt_s`);
    w.op('v128.bitselect');
    e.xmm('b');
    w.v128(0n, 0n);
    w.op(`${shape}.eq`);
    w.op('v128.andnot');
  });
}
binary('pshufb', (e) => {
  e.xmm('a');
  e.xmm('b');
  e.w.v128(0x8f8f_8f8f_8f8f_8f8fn, 0x8f8f_8f8f_8f8f_8f8fn);
  e.w.op('v128.and');
  e.w.op('i8x16.swizzle');
});
/** Blends by the sign bits of XMM0's elements. */
for (const [name, shape, bits] of [
  ['pblendvb', 'i8x16', 7],
  ['blendvps', 'i32x4', 31],
  ['blendvpd', 'i64x2', 63],
] as const) {
  binary(name, (e) => {
    e.xmm('b');
    e.xmm('a');
    e.state(STATE.XMM, 'v128');
    e.w.i32(bits);
    e.w.op(`${shape}.shr_s`);
    e.w.op('v128.bitselect');
  });
}

// ---- shifts ----

for (const [suffix, shape, bits] of [
  ['w', 'i16x8', 16],
  ['d', 'i32x4', 32],
  ['q', 'i64x2', 64],
] as const) {
  for (const [prefix, op] of [
    ['psll', 'shl'],
    ['psrl', 'shr_u'],
    ['psra', 'shr_s'],
  ] as const) {
    const name = `v.${prefix}${suffix}`;
    if (name === 'v.psraq') continue;
    defineUop(`${name}.ri`, (e) => vectorShift(e, `${shape}.${op}`, bits, () => e.imm()));
    defineUop(`${name}.rr`, (e) =>
      vectorShift(e, `${shape}.${op}`, bits, () => {
        e.xmm('b');
        e.w.lane('i64x2.extract_lane', 0);
      }),
    );
  }
}
/** Counts beyond the element give zeros, or copies of the sign. */
function vectorShift(e: Emitter, op: string, bits: number, count: Push): void {
  const { w } = e;
  const arithmetic = op.endsWith('_s');
  const places = e.i64[0];
  count();
  w.set(places);
  e.setXmm('a', () => {
    e.xmm('a');
    w.i32(bits - 1);
    w.get(places);
    w.op('i32.wrap_i64');
    w.get(places);
    w.i64(BigInt(bits - 1));
    w.op('i64.gt_u');
    w.op('select');
    w.op(op);
    if (arithmetic) return;
    w.v128(0n, 0n);
    w.get(places);
    w.i64(BigInt(bits));
    w.op('i64.lt_u');
    w.op('select');
  });
}

// ---- permutations whose immediate is not known when the interpreter is made: through memory ----

function toScratch(e: Emitter, field: 'a' | 'b', at: number): void {
  e.w.i32(0);
  e.xmm(field);
  e.w.memory('v128.store', SCRATCH + at);
}
function zeroScratch(e: Emitter, at: number): void {
  e.w.i32(0);
  e.w.v128(0n, 0n);
  e.w.memory('v128.store', SCRATCH + at);
}
/** Pushes ((IMM >> shift) & mask) << scale as i32. */
function selector(e: Emitter, shift: number, mask: number, scale: number): void {
  e.imm();
  e.w.op('i32.wrap_i64');
  if (shift > 0) {
    e.w.i32(shift);
    e.w.op('i32.shr_u');
  }
  e.w.i32(mask);
  e.w.op('i32.and');
  e.w.i32(scale);
  e.w.op('i32.shl');
}

/** Four doublewords chosen by IMM: the first `fromA` of them from A, the others from B. */
function chooseDoublewords(e: Emitter, fromA: number): void {
  toScratch(e, 'a', 0);
  toScratch(e, 'b', 16);
  e.setXmm('a', () => {
    e.w.v128(0n, 0n);
    for (let lane = 0; lane < 4; lane++) {
      selector(e, lane * 2, 3, 2);
      e.w.memory('i32.load', SCRATCH + (lane < fromA ? 0 : 16));
      e.w.lane('i32x4.replace_lane', lane);
    }
  });
}
defineUop('v.pshufd', (e) => chooseDoublewords(e, 0));
defineUop('v.shufps', (e) => chooseDoublewords(e, 2));
defineUop('v.shufpd', (e) => {
  toScratch(e, 'a', 0);
  toScratch(e, 'b', 16);
  e.setXmm('a', () => {
    e.w.v128(0n, 0n);
    for (let lane = 0; lane < 2; lane++) {
      selector(e, lane, 1, 3);
      e.w.memory('i64.load', SCRATCH + lane * 16);
      e.w.lane('i64x2.replace_lane', lane);
    }
  });
});
for (const [name, first] of [
  ['pshuflw', 0],
  ['pshufhw', 4],
] as const) {
  defineUop(`v.${name}`, (e) => {
    toScratch(e, 'b', 0);
    e.setXmm('a', () => {
      e.xmm('b');
      for (let lane = 0; lane < 4; lane++) {
        selector(e, lane * 2, 3, 1);
        e.w.memory('i32.load16_u', SCRATCH + first * 2);
        e.w.lane('i16x8.replace_lane', first + lane);
      }
    });
  });
}
/** Pushes IMM's low byte, at most `most`, as i32. */
function limited(e: Emitter, most: number): void {
  const value = e.i32[0];
  selector(e, 0, 0xff, 0);
  e.w.tee(value);
  e.w.i32(most);
  e.w.get(value);
  e.w.i32(most);
  e.w.op('i32.lt_u');
  e.w.op('select');
}
defineUop('v.palignr', (e) => {
  toScratch(e, 'b', 0);
  toScratch(e, 'a', 16);
  zeroScratch(e, 32);
  e.setXmm('a', () => {
    limited(e, 32);
    e.w.memory('v128.load', SCRATCH);
  });
});
defineUop('v.psrldq', (e) => {
  toScratch(e, 'a', 0);
  zeroScratch(e, 16);
  e.setXmm('a', () => {
    limited(e, 16);
    e.w.memory('v128.load', SCRATCH);
  });
});
defineUop('v.pslldq', (e) => {
  zeroScratch(e, 0);
  toScratch(e, 'a', 16);
  e.setXmm('a', () => {
    e.w.i32(16);
    limited(e, 16);
    e.w.op('i32.sub');
    e.w.memory('v128.load', SCRATCH);
  });
});
/** PINSRx: A.element[IMM] = general register B. PEXTRx: general register A = B.element[IMM]. */
const ELEMENTS: readonly (readonly [Width, number])[] = [
  [8, 0],
  [16, 1],
  [32, 2],
  [64, 3],
];
for (const [width, scale] of ELEMENTS) {
  const mask = 128 / width - 1;
  defineUop(`v.insert${width}`, (e) => {
    toScratch(e, 'a', 0);
    selector(e, 0, mask, scale);
    e.reg('b', width);
    e.w.memory(width === 64 ? 'i64.store' : `i64.store${width}`, SCRATCH);
    e.setXmm('a', () => {
      e.w.i32(0);
      e.w.memory('v128.load', SCRATCH);
    });
  });
  defineUop(`v.extract${width}`, (e) => {
    toScratch(e, 'b', 0);
    e.setReg('a', width === 64 ? 64 : 32, () => {
      selector(e, 0, mask, scale);
      e.w.memory(width === 64 ? 'i64.load' : `i64.load${width}_u`, SCRATCH);
    });
  });
}

// ---- masks and tests ----

for (const [name, op] of [
  ['pmovmskb', 'i8x16.bitmask'],
  ['movmskps', 'i32x4.bitmask'],
  ['movmskpd', 'i64x2.bitmask'],
] as const) {
  defineUop(`v.${name}`, (e) =>
    e.setReg('a', 32, () => {
      e.xmm('b');
      e.w.op(op);
      e.w.op('i64.extend_i32_u');
    }),
  );
}
/** ZF = no common bits, CF = B has no bit that A lacks; the other flags are clear. */
defineUop('v.ptest', (e) => {
  const { w } = e;
  const zero = e.i32[0];
  operands(e);
  w.op('v128.and');
  w.op('v128.any_true');
  w.op('i32.eqz');
  w.set(zero);
  e.flags.set(
    () => {
      w.get(zero);
      w.op('i32.eqz');
      w.op('i64.extend_i32_u');
    },
    () => {
      w.i64(0n);
      w.i64(3n << 62n);
      e.xmm('b');
      e.xmm('a');
      w.op('v128.andnot');
      w.op('v128.any_true');
      w.op('select');
      w.get(zero);
      w.op('i64.extend_i32_u');
      w.op('i64.or');
    },
  );
});

// ---- the rest is in the core: (imm, destination, a, b) by pointers ----

for (const name of ['mpsadbw', 'phminposuw', 'blendps', 'blendpd', 'pblendw', 'insertps']) {
  defineUop(`v.${name}`, (e) => {
    selector(e, 0, 0xff, 0);
    e.registerPointer('a');
    e.registerPointer('b');
    e.call(name);
    e.registerWritten('a');
  });
}
/** PCMPxSTRx. IMM: bits 0–7 the immediate, 8 explicit lengths, 9 64-bit lengths, 10 result is a mask. */
defineUop('v.pcmpstr', (e) => {
  selector(e, 0, 0x7ff, 0);
  e.registerPointer('a');
  e.registerPointer('b');
  e.call('compareStrings');
});

// ---- MMX: the registers are the significands of the x87 registers ----

/** An MMX instruction sets TOP to 0 and marks all x87 registers as in use. */
defineUop('mmx.begin', (e) => mmxMode(e));
function mmxMode(e: Emitter, used = 0xff): void {
  e.call('x87Wait');
  e.faultIf();
  e.setState(STATE.FSW, 'i32', () => {
    e.state(STATE.FSW, 'i32');
    e.w.i32(~0x3800);
    e.w.op('i32.and');
  });
  e.setState(STATE.FTW, 'i32', () => e.w.i32(used));
}
/** A writes all ones to the sign and exponent. */
defineUop('mmx.set', (e) => {
  mmxMode(e);
  e.setXmm('a', () => {
    e.w.v128(0n, 0xffffn);
    e.xmm('b');
    e.w.lane('i64x2.extract_lane', 0);
    e.w.lane('i64x2.replace_lane', 0);
  });
});
defineUop('emms', (e) => mmxMode(e, 0));
defineUop('mmx.shuffleindex', (e) =>
  e.setXmm('a', () => {
    e.xmm('a');
    e.w.v128(0x8787_8787_8787_8787n, 0x8787_8787_8787_8787n);
    e.w.op('v128.and');
  }),
);
/** Byte-wise conditional store. IMM = bytes. */
defineUop('v.maskmove', (e) => {
  const { w } = e;
  const mask = e.i32[1];
  e.xmm('b');
  w.op('i8x16.bitmask');
  e.imm();
  w.op('i32.wrap_i64');
  w.i32(16);
  w.op('i32.eq');
  w.if('i32');
  w.i32(0xffff);
  w.else();
  w.i32(0xff);
  w.end();
  w.op('i32.and');
  w.set(mask);
  toScratch(e, 'a', 0);
  e.systemCall('maskedStore', () => {
    e.address();
    w.get(mask);
  });
});
