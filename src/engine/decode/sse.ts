/** SSE to SSE4.2: rows of opcode, mandatory prefix and micro-op. */
import { STATE } from '../layout.ts';
import { uop } from '../uops/index.ts';
import { type Instruction, TEMP1, UndefinedOpcode, ZERO } from './instruction.ts';
import { type Handler, simple, table38, table3a, twoByte } from './tables.ts';

const VTEMP = STATE.XMM_TEMP0;

/** Mandatory prefixes in the order of the tables: none, 66, F3, F2. */
type Prefix = 0 | 1 | 2 | 3;
type Row = (i: Instruction) => void;

const prefixOf = (i: Instruction): Prefix =>
  i.repeat === 0xf3 ? 2 : i.repeat === 0xf2 ? 3 : i.prefix66 ? 1 : 0;

/** A handler that chooses by mandatory prefix; ModRM is read first. */
function rows(none?: Row, p66?: Row, pF3?: Row, pF2?: Row): Handler {
  const table = [none, p66, pF3, pF2];
  return simple((i) => {
    const row = table[prefixOf(i)];
    if (row === undefined) throw new UndefinedOpcode('SSE prefix');
    i.requireSse();
    i.readModrm();
    row(i);
  });
}

const reg = (i: Instruction): number => i.xmm(i.reg);

/** State offset of the source vector: a register, or VTEMP after a load of `bits`. Packed operands must be aligned. */
function source(i: Instruction, bits: 32 | 64 | 128 = 128, aligned = true): number {
  if (i.isRegister) return i.xmm(i.rm);
  i.memory();
  i.emit(bits === 128 ? (aligned ? uop`v.load128a` : uop`v.load128`) : uop`v.load${bits}`, VTEMP);
  return VTEMP;
}

/** A = A op B, by default with a 128-bit aligned operand. */
const op =
  (name: string, bits: 32 | 64 | 128 = 128): Row =>
  (i) =>
    i.emit(uop`${name}`, reg(i), source(i, bits));
/** The same with an immediate byte. The immediate comes last in the instruction, the load first in the micro-ops. */
const opImm =
  (
    name: string,
    bits: 32 | 64 | 128 = 128,
    change: (imm: number, i: Instruction) => number = (imm) => imm,
  ): Row =>
  (i) => {
    const imm = change(i.u8(), i);
    i.emit(uop`${name}`, reg(i), source(i, bits), imm);
  };

// ---- floating point ----

for (const [opcode, name] of [
  [0x51, 'sqrt'],
  [0x58, 'add'],
  [0x59, 'mul'],
  [0x5c, 'sub'],
  [0x5d, 'min'],
  [0x5e, 'div'],
  [0x5f, 'max'],
] as const) {
  twoByte[opcode] = rows(op(`${name}ps`), op(`${name}pd`), op(`${name}ss`, 32), op(`${name}sd`, 64));
}
twoByte[0x52] = rows(op('rsqrtps'), undefined, op('rsqrtss', 32));
twoByte[0x53] = rows(op('rcpps'), undefined, op('rcpss', 32));
for (const [opcode, name] of [
  [0x54, 'v.pand'],
  [0x55, 'v.pandn'],
  [0x56, 'v.por'],
  [0x57, 'v.pxor'],
] as const) {
  twoByte[opcode] = rows(op(name), op(name));
}
twoByte[0x14] = rows(op('v.punpckldq'), op('v.punpcklqdq'));
twoByte[0x15] = rows(op('v.punpckhdq'), op('v.punpckhqdq'));
twoByte[0x2e] = rows(op('ucomiss', 32), op('ucomisd', 64));
twoByte[0x2f] = rows(op('comiss', 32), op('comisd', 64));
const compare =
  (suffix: string, bits: 32 | 64 | 128): Row =>
  (i) => {
    const predicate = i.u8() & 7;
    i.emit(uop`cmp${predicate}${suffix}`, reg(i), source(i, bits));
  };
twoByte[0xc2] = rows(compare('ps', 128), compare('pd', 128), compare('ss', 32), compare('sd', 64));
twoByte[0xc6] = rows(opImm('v.shufps'), opImm('v.shufpd'));
twoByte[0x7c] = rows(undefined, op('haddpd'), undefined, op('haddps'));
twoByte[0x7d] = rows(undefined, op('hsubpd'), undefined, op('hsubps'));
twoByte[0xd0] = rows(undefined, op('addsubpd'), undefined, op('addsubps'));

// ---- conversions ----

const fromInteger =
  (format: string): Row =>
  (i) => {
    const width = i.rex & 8 ? 64 : 32;
    i.emit(uop`cvtsi2${format}.${width}`, reg(i), i.source(width));
  };
const toInteger =
  (name: string, bits: 32 | 64): Row =>
  (i) => {
    const width = i.rex & 8 ? 64 : 32;
    i.emit(uop`${name}2si.${width}`, i.gpr(i.reg), source(i, bits));
  };
/** Conversions between MMX and XMM registers: the MMX operand goes through a vector temporary. */
const fromMmx =
  (name: string): Row =>
  (i) => {
    i.emit(uop`${name}`, reg(i), mmxSource(i));
  };
const toMmx =
  (name: string, bits: 64 | 128): Row =>
  (i) => {
    i.emit(uop`fwait`);
    i.emit(uop`${name}`, VTEMP, source(i, bits));
    i.emit(uop`mmx.set`, mmxReg(i), VTEMP);
  };
/** CVTPI2PD of memory does not touch the x87 unit. */
const fromMmxToDoubles: Row = (i) => {
  i.emit(uop`cvtdq2pd`, reg(i), i.isRegister ? mmxSource(i) : source(i, 64));
};
twoByte[0x2a] = rows(fromMmx('cvtpi2ps'), fromMmxToDoubles, fromInteger('ss'), fromInteger('sd'));
twoByte[0x2c] = rows(
  toMmx('cvttps2pi', 64),
  toMmx('cvttpd2pi', 128),
  toInteger('cvttss', 32),
  toInteger('cvttsd', 64),
);
twoByte[0x2d] = rows(
  toMmx('cvtps2pi', 64),
  toMmx('cvtpd2pi', 128),
  toInteger('cvtss', 32),
  toInteger('cvtsd', 64),
);
twoByte[0x5a] = rows(op('cvtps2pd', 64), op('cvtpd2ps'), op('cvtss2sd', 32), op('cvtsd2ss', 64));
twoByte[0x5b] = rows(op('cvtdq2ps'), op('cvtps2dq'), op('cvttps2dq'));
twoByte[0xe6] = rows(undefined, op('cvttpd2dq'), op('cvtdq2pd', 64), op('cvtpd2dq'));

// ---- moves ----

const load =
  (aligned: boolean): Row =>
  (i) => {
    if (i.isRegister) {
      i.emit(uop`v.mov`, reg(i), i.xmm(i.rm));
      return;
    }
    i.memory();
    i.emit(aligned ? uop`v.load128a` : uop`v.load128`, reg(i));
  };
const store =
  (aligned: boolean): Row =>
  (i) => {
    if (i.isRegister) {
      i.emit(uop`v.mov`, i.xmm(i.rm), reg(i));
      return;
    }
    i.memory();
    i.emit(aligned ? uop`v.store128a` : uop`v.store128`, ZERO, reg(i));
  };
/** MOVSS and MOVSD: from memory the rest of the register is cleared, between registers it stays. */
const loadScalar =
  (bits: 32 | 64): Row =>
  (i) => {
    if (i.isRegister) {
      i.emit(uop`v.mov${bits}`, reg(i), i.xmm(i.rm));
      return;
    }
    i.memory();
    i.emit(uop`v.load${bits}`, reg(i));
  };
const storeScalar =
  (bits: 32 | 64): Row =>
  (i) => {
    if (i.isRegister) {
      i.emit(uop`v.mov${bits}`, i.xmm(i.rm), reg(i));
      return;
    }
    i.memory();
    i.emit(uop`v.store${bits}`, ZERO, reg(i));
  };
/** Memory only: stores that hint not to cache. */
const storeOnly =
  (name: string): Row =>
  (i) => {
    if (i.isRegister) throw new UndefinedOpcode('store to a register');
    i.memory();
    i.emit(uop`${name}`, ZERO, reg(i));
  };
/** One 64-bit half of A from memory, or (MOVHLPS, MOVLHPS) from a half of a register. */
const loadHalf =
  (to: 0 | 1, registerHalf: 0 | 1 | undefined): Row =>
  (i) => {
    if (!i.isRegister) i.emit(uop`v.lane64.${to}.0`, reg(i), source(i, 64));
    else if (registerHalf === undefined) throw new UndefinedOpcode('half of a register');
    else i.emit(uop`v.lane64.${to}.${registerHalf}`, reg(i), i.xmm(i.rm));
  };
twoByte[0x10] = rows(load(false), load(false), loadScalar(32), loadScalar(64));
twoByte[0x11] = rows(store(false), store(false), storeScalar(32), storeScalar(64));
twoByte[0x28] = rows(load(true), load(true));
twoByte[0x29] = rows(store(true), store(true));
twoByte[0x2b] = rows(storeOnly('v.store128a'), storeOnly('v.store128a'));
twoByte[0x12] = rows(loadHalf(0, 1), loadHalf(0, undefined), op('v.movsldup'), op('v.movddup', 64));
twoByte[0x13] = rows(storeOnly('v.store64'), storeOnly('v.store64'));
twoByte[0x16] = rows(loadHalf(1, 0), loadHalf(1, undefined), op('v.movshdup'));
twoByte[0x17] = rows(storeOnly('v.store64high'), storeOnly('v.store64high'));
twoByte[0xc3] = rows((i) => {
  if (i.isRegister) throw new UndefinedOpcode('MOVNTI to a register');
  const width = i.rex & 8 ? 64 : 32;
  i.memory();
  i.emit(uop`mov${width}.mr`, ZERO, i.gpr(i.reg));
});
const mask =
  (name: string): Row =>
  (i) => {
    if (!i.isRegister) throw new UndefinedOpcode('mask of memory');
    i.emit(uop`${name}`, i.gpr(i.reg), i.xmm(i.rm));
  };
twoByte[0x50] = rows(mask('v.movmskps'), mask('v.movmskpd'));

// ---- integer vectors, and MMX where there is no prefix ----

const mmxReg = (i: Instruction): number => STATE.ST + (i.reg & 7) * 16;
const mmxRm = (i: Instruction): number => STATE.ST + (i.rm & 7) * 16;
const MTEMP = STATE.XMM_TEMP1;

/** The MMX operand in a vector temporary: its 64 bits in the low half. */
function mmxSource(i: Instruction, bits: 32 | 64 = 64): number {
  if (i.isRegister) {
    i.emit(uop`mmx.begin`);
    i.emit(uop`v.movq`, VTEMP, mmxRm(i));
  } else {
    i.memory();
    i.emit(uop`fwait`);
    i.emit(uop`v.load${bits}`, VTEMP);
    i.emit(uop`mmx.begin`);
  }
  return VTEMP;
}
/** Stores an MMX register: a store that faults leaves the x87 unit as it was. */
function mmxStore(i: Instruction, width: 32 | 64): void {
  i.memory();
  i.emit(uop`fwait`);
  i.emit(uop`probe${width}`);
  i.emit(uop`mmx.begin`);
  i.emit(uop`v.store${width}`, ZERO, mmxReg(i));
}
/** MMX forms of vector operations run on vector temporaries; `name` has to be right for the low half. */
const mmx =
  (name: string, finish?: string, bits: 32 | 64 = 64): Row =>
  (i) => {
    const b = mmxSource(i, bits);
    i.emit(uop`v.movq`, MTEMP, mmxReg(i));
    i.emit(uop`${name}`, MTEMP, b);
    if (finish !== undefined) i.emit(uop`${finish}`, MTEMP, MTEMP);
    i.emit(uop`mmx.set`, mmxReg(i), MTEMP);
  };

const LANEWISE: readonly (readonly [number, string])[] = [
  [0x64, 'pcmpgtb'],
  [0x65, 'pcmpgtw'],
  [0x66, 'pcmpgtd'],
  [0x74, 'pcmpeqb'],
  [0x75, 'pcmpeqw'],
  [0x76, 'pcmpeqd'],
  [0xd4, 'paddq'],
  [0xd5, 'pmullw'],
  [0xd8, 'psubusb'],
  [0xd9, 'psubusw'],
  [0xda, 'pminub'],
  [0xdb, 'pand'],
  [0xdc, 'paddusb'],
  [0xdd, 'paddusw'],
  [0xde, 'pmaxub'],
  [0xdf, 'pandn'],
  [0xe0, 'pavgb'],
  [0xe3, 'pavgw'],
  [0xe4, 'pmulhuw'],
  [0xe5, 'pmulhw'],
  [0xe8, 'psubsb'],
  [0xe9, 'psubsw'],
  [0xea, 'pminsw'],
  [0xeb, 'por'],
  [0xec, 'paddsb'],
  [0xed, 'paddsw'],
  [0xee, 'pmaxsw'],
  [0xef, 'pxor'],
  [0xf4, 'pmuludq'],
  [0xf5, 'pmaddwd'],
  [0xf6, 'psadbw'],
  [0xf8, 'psubb'],
  [0xf9, 'psubw'],
  [0xfa, 'psubd'],
  [0xfb, 'psubq'],
  [0xfc, 'paddb'],
  [0xfd, 'paddw'],
  [0xfe, 'paddd'],
];
for (const [opcode, name] of LANEWISE) twoByte[opcode] = rows(mmx(`v.${name}`), op(`v.${name}`));

// The halves of a 64-bit register interleave to the same 8 bytes as the low or, shifted down, the high
// half of a 128-bit interleave of the low halves.
for (const [opcode, low, high] of [
  [0x60, 'punpcklbw', 'punpckhbw'],
  [0x61, 'punpcklwd', 'punpckhwd'],
  [0x62, 'punpckldq', 'punpckhdq'],
] as const) {
  twoByte[opcode] = rows(mmx(`v.${low}`, undefined, 32), op(`v.${low}`));
  twoByte[opcode + 8] = rows(mmx(`v.${low}`, 'v.lane64.0.1'), op(`v.${high}`));
}
twoByte[0x6c] = rows(undefined, op('v.punpcklqdq'));
twoByte[0x6d] = rows(undefined, op('v.punpckhqdq'));
/** Packs put A's elements in the low half; for 64-bit operands, A and B are first put side by side. */
const mmxPack =
  (name: string): Row =>
  (i) => {
    const b = mmxSource(i);
    i.emit(uop`v.movq`, MTEMP, mmxReg(i));
    i.emit(uop`v.lane64.1.0`, MTEMP, b);
    i.emit(uop`${name}`, MTEMP, MTEMP);
    i.emit(uop`mmx.set`, mmxReg(i), MTEMP);
  };
for (const [opcode, name] of [
  [0x63, 'packsswb'],
  [0x67, 'packuswb'],
  [0x6b, 'packssdw'],
] as const) {
  twoByte[opcode] = rows(mmxPack(`v.${name}`), op(`v.${name}`));
}

// MOVD, MOVQ
const fromGeneral: Row = (i) => {
  const width = i.rex & 8 ? 64 : 32;
  i.emit(uop`v.fromreg${width}`, reg(i), i.source(width));
};
const toGeneral: Row = (i) => {
  const width = i.rex & 8 ? 64 : 32;
  if (i.isRegister) {
    i.emit(uop`v.toreg${width}`, i.gpr(i.rm), reg(i));
    return;
  }
  i.memory();
  i.emit(uop`v.store${width}`, ZERO, reg(i));
};
twoByte[0x6e] = rows((i) => {
  const width = i.rex & 8 ? 64 : 32;
  i.emit(uop`fwait`);
  const from = i.source(width);
  i.emit(uop`mmx.begin`);
  i.emit(uop`v.fromreg${width}`, VTEMP, from);
  i.emit(uop`mmx.set`, mmxReg(i), VTEMP);
}, fromGeneral);
twoByte[0x7e] = rows(
  (i) => {
    const width = i.rex & 8 ? 64 : 32;
    if (i.isRegister) {
      i.emit(uop`mmx.begin`);
      i.emit(uop`v.toreg${width}`, i.gpr(i.rm), mmxReg(i));
      return;
    }
    mmxStore(i, width);
  },
  toGeneral,
  (i) => i.emit(uop`v.movq`, reg(i), source(i, 64)),
);
twoByte[0x6f] = rows((i) => i.emit(uop`mmx.set`, mmxReg(i), mmxSource(i)), load(true), load(false));
twoByte[0x7f] = rows(
  (i) => {
    if (i.isRegister) {
      i.emit(uop`mmx.begin`);
      i.emit(uop`mmx.set`, mmxRm(i), mmxReg(i));
      return;
    }
    mmxStore(i, 64);
  },
  store(true),
  store(false),
);
twoByte[0xd6] = rows(
  undefined,
  (i) => {
    if (i.isRegister) {
      i.emit(uop`v.movq`, i.xmm(i.rm), reg(i));
      return;
    }
    i.memory();
    i.emit(uop`v.store64`, ZERO, reg(i));
  },
  (i) => i.emit(uop`v.movq`, reg(i), mmxSource(i)),
  (i) => {
    i.emit(uop`mmx.begin`);
    i.emit(uop`mmx.set`, mmxReg(i), i.xmm(i.rm));
  },
);
twoByte[0xe7] = rows((i) => {
  if (i.isRegister) throw new UndefinedOpcode('MOVNTQ to a register');
  mmxStore(i, 64);
}, storeOnly('v.store128a'));
twoByte[0xf0] = rows(undefined, undefined, undefined, load(false));
twoByte[0x77] = simple((i) => {
  i.requireFpu();
  i.emit(uop`emms`);
});

// Masks, word access
twoByte[0xd7] = rows((i) => {
  if (!i.isRegister) throw new UndefinedOpcode('mask of memory');
  i.emit(uop`v.movq`, VTEMP, mmxRm(i));
  i.emit(uop`mmx.begin`);
  i.emit(uop`v.pmovmskb`, i.gpr(i.reg), VTEMP);
}, mask('v.pmovmskb'));
/** PINSRx: the element's index is the last byte. */
const insert =
  (width: 8 | 16 | 32 | 64): Row =>
  (i) => {
    const imm = i.u8();
    i.emit(uop`v.insert${width}`, reg(i), i.isRegister ? i.gpr(i.rm) : i.source(width), imm);
  };
twoByte[0xc4] = rows((i) => {
  const imm = i.u8() & 3;
  i.emit(uop`fwait`);
  const from = i.isRegister ? i.gpr(i.rm) : i.source(16);
  i.emit(uop`mmx.begin`);
  i.emit(uop`v.movq`, MTEMP, mmxReg(i));
  i.emit(uop`v.insert16`, MTEMP, from, imm);
  i.emit(uop`mmx.set`, mmxReg(i), MTEMP);
}, insert(16));
twoByte[0xc5] = rows(
  (i) => {
    const imm = i.u8() & 3;
    if (!i.isRegister) throw new UndefinedOpcode('PEXTRW of memory');
    i.emit(uop`mmx.begin`);
    i.emit(uop`v.extract16`, i.gpr(i.reg), mmxRm(i), imm);
  },
  (i) => {
    const imm = i.u8();
    if (!i.isRegister) throw new UndefinedOpcode('PEXTRW of memory');
    i.emit(uop`v.extract16`, i.gpr(i.reg), i.xmm(i.rm), imm);
  },
);
// Shuffles
twoByte[0x70] = rows(
  (i) => {
    const imm = i.u8();
    const b = mmxSource(i);
    i.emit(uop`v.pshuflw`, MTEMP, b, imm);
    i.emit(uop`mmx.set`, mmxReg(i), MTEMP);
  },
  opImm('v.pshufd'),
  opImm('v.pshufhw'),
  opImm('v.pshuflw'),
);

// Shifts
const SHIFT_GROUPS: Readonly<Record<number, Readonly<Record<number, string>>>> = {
  0x71: { 2: 'psrlw', 4: 'psraw', 6: 'psllw' },
  0x72: { 2: 'psrld', 4: 'psrad', 6: 'pslld' },
  0x73: { 2: 'psrlq', 3: 'psrldq', 6: 'psllq', 7: 'pslldq' },
};
function shiftImmediate(i: Instruction): string {
  const name = SHIFT_GROUPS[i.opcode][i.reg & 7];
  if (name === undefined || !i.isRegister) throw new UndefinedOpcode('vector shift');
  return name;
}
for (const opcode of [0x71, 0x72, 0x73]) {
  twoByte[opcode] = rows(
    (i) => {
      const name = shiftImmediate(i);
      if (name.endsWith('dq')) throw new UndefinedOpcode('MMX byte shift');
      i.emit(uop`mmx.begin`);
      i.emit(uop`v.movq`, MTEMP, mmxRm(i));
      i.emit(uop`v.${name}.ri`, MTEMP, ZERO, i.u8());
      i.emit(uop`mmx.set`, mmxRm(i), MTEMP);
    },
    (i) => {
      const name = shiftImmediate(i);
      i.emit(name.endsWith('dq') ? uop`v.${name}` : uop`v.${name}.ri`, i.xmm(i.rm), ZERO, i.u8());
    },
  );
}
for (const [opcode, name] of [
  [0xd1, 'psrlw'],
  [0xd2, 'psrld'],
  [0xd3, 'psrlq'],
  [0xe1, 'psraw'],
  [0xe2, 'psrad'],
  [0xf1, 'psllw'],
  [0xf2, 'pslld'],
  [0xf3, 'psllq'],
] as const) {
  twoByte[opcode] = rows(mmx(`v.${name}.rr`), op(`v.${name}.rr`));
}
/** MASKMOVDQU and MASKMOVQ: bytes of A whose mask byte in B is negative go to [rDI]. */
const maskedStore =
  (bytes: number): Row =>
  (i) => {
    if (!i.isRegister) throw new UndefinedOpcode('mask in memory');
    const [value, selected] = bytes === 16 ? [i.xmm(i.reg), i.xmm(i.rm)] : [mmxReg(i), mmxRm(i)];
    if (bytes === 8) i.emit(uop`mmx.begin`);
    i.base = 7 * 8;
    i.memory();
    i.emit(uop`v.maskmove`, value, selected, bytes);
  };
twoByte[0xf7] = rows(maskedStore(8), maskedStore(16));

// ---- SSSE3, SSE4.1, SSE4.2 ----

for (const [opcode, name] of [
  [0x00, 'pshufb'],
  [0x01, 'phaddw'],
  [0x02, 'phaddd'],
  [0x03, 'phaddsw'],
  [0x04, 'pmaddubsw'],
  [0x05, 'phsubw'],
  [0x06, 'phsubd'],
  [0x07, 'phsubsw'],
  [0x08, 'psignb'],
  [0x09, 'psignw'],
  [0x0a, 'psignd'],
  [0x0b, 'pmulhrsw'],
  [0x1c, 'pabsb'],
  [0x1d, 'pabsw'],
  [0x1e, 'pabsd'],
] as const) {
  table38[opcode] = rows(ssse3Mmx(name), op(`v.${name}`));
}
/** Horizontal operations on 64 bits are those on A and B side by side; PSHUFB's index has 3 bits then. */
function ssse3Mmx(name: string): Row {
  if (name === 'pshufb') {
    return (i) => {
      const b = mmxSource(i);
      i.emit(uop`mmx.shuffleindex`, b);
      i.emit(uop`v.movq`, MTEMP, mmxReg(i));
      i.emit(uop`v.pshufb`, MTEMP, b);
      i.emit(uop`mmx.set`, mmxReg(i), MTEMP);
    };
  }
  return name.startsWith('ph') ? mmxPack(`v.${name}`) : mmx(`v.${name}`);
}
for (const [opcode, name] of [
  [0x10, 'pblendvb'],
  [0x14, 'blendvps'],
  [0x15, 'blendvpd'],
  [0x17, 'ptest'],
  [0x28, 'pmuldq'],
  [0x29, 'pcmpeqq'],
  [0x2b, 'packusdw'],
  [0x37, 'pcmpgtq'],
  [0x38, 'pminsb'],
  [0x39, 'pminsd'],
  [0x3a, 'pminuw'],
  [0x3b, 'pminud'],
  [0x3c, 'pmaxsb'],
  [0x3d, 'pmaxsd'],
  [0x3e, 'pmaxuw'],
  [0x3f, 'pmaxud'],
  [0x40, 'pmulld'],
  [0x41, 'phminposuw'],
] as const) {
  table38[opcode] = rows(undefined, op(`v.${name}`));
}
for (const [opcode, sign] of [
  [0x20, 's'],
  [0x30, 'z'],
] as const) {
  // The operand is as long as the elements that are extended; 16-bit ones are loaded as 32.
  const forms: readonly (readonly [string, 32 | 64])[] = [
    ['bw', 64],
    ['bd', 32],
    ['bq', 32],
    ['wd', 64],
    ['wq', 32],
    ['dq', 64],
  ];
  forms.forEach(([suffix, bits], n) => {
    table38[opcode + n] = rows(undefined, (i) => {
      if (suffix === 'bq' && !i.isRegister) {
        i.memory();
        i.emit(uop`movzx32.16.rm`, TEMP1);
        i.emit(uop`v.fromreg32`, VTEMP, TEMP1);
        i.emit(uop`v.pmov${sign}xbq`, reg(i), VTEMP);
        return;
      }
      i.emit(uop`v.pmov${sign}x${suffix}`, reg(i), source(i, bits));
    });
  });
}
table38[0x2a] = rows(undefined, load(true));
/** CRC32; without F2 these opcodes are MOVBE, which is not declared. */
for (const low of [0, 1]) {
  table38[0xf0 + low] = simple((i) => {
    if (i.repeat !== 0xf2) throw new UndefinedOpcode('MOVBE');
    i.readModrm();
    const width = low === 0 ? 8 : i.operandSize;
    i.emit(uop`crc32.${width}`, i.gpr(i.reg), i.source(width));
  });
}
table3a[0x08] = rows(undefined, opImm('roundps'));
table3a[0x09] = rows(undefined, opImm('roundpd'));
table3a[0x0a] = rows(undefined, opImm('roundss', 32));
table3a[0x0b] = rows(undefined, opImm('roundsd', 64));
table3a[0x0c] = rows(undefined, opImm('v.blendps'));
table3a[0x0d] = rows(undefined, opImm('v.blendpd'));
table3a[0x0e] = rows(undefined, opImm('v.pblendw'));
table3a[0x0f] = rows((i) => {
  const imm = i.u8();
  const b = mmxSource(i);
  // 64-bit operands: B and A side by side in one register, shifted down.
  i.emit(uop`v.lane64.1.0`, b, mmxReg(i));
  i.emit(uop`v.psrldq`, b, ZERO, imm);
  i.emit(uop`mmx.set`, mmxReg(i), b);
}, opImm('v.palignr'));
const extract =
  (width: 8 | 16 | 32 | 64): Row =>
  (i) => {
    const imm = i.u8();
    if (i.isRegister) {
      i.emit(uop`v.extract${width}`, i.gpr(i.rm), reg(i), imm);
      return;
    }
    i.memory();
    i.emit(uop`v.extract${width}`, TEMP1, reg(i), imm);
    i.emit(uop`mov${width}.mr`, ZERO, TEMP1);
  };
table3a[0x14] = rows(undefined, extract(8));
table3a[0x15] = rows(undefined, extract(16));
table3a[0x16] = rows(undefined, (i) => extract(i.rex & 8 ? 64 : 32)(i));
table3a[0x17] = rows(undefined, extract(32));
table3a[0x20] = rows(undefined, insert(8));
table3a[0x21] = rows(
  undefined,
  opImm('v.insertps', 32, (imm, i) => (i.isRegister ? imm : imm & 0x3f)),
);
table3a[0x22] = rows(undefined, (i) => insert(i.rex & 8 ? 64 : 32)(i));
table3a[0x40] = rows(undefined, opImm('dpps'));
table3a[0x41] = rows(undefined, opImm('dppd'));
table3a[0x42] = rows(undefined, opImm('v.mpsadbw'));
/** PCMPESTRM, PCMPESTRI, PCMPISTRM, PCMPISTRI: memory operands need not be aligned. */
[0x60, 0x61, 0x62, 0x63].forEach((opcode) => {
  const explicit = opcode < 0x62 ? 0x100 : 0;
  const wantsMask = opcode & 1 ? 0 : 0x400;
  table3a[opcode] = rows(undefined, (i) => {
    const imm = i.u8();
    const wide = i.rex & 8 ? 0x200 : 0;
    i.emit(uop`v.pcmpstr`, reg(i), source(i, 128, false), imm | explicit | wide | wantsMask);
  });
});
