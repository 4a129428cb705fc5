/** Integer instructions of the one-byte map: arithmetic, moves, shifts, multiplication, stack. */
import { STATE } from '../layout.ts';
import { uop } from '../uops/index.ts';
import { FLOW, type Instruction, SEGMENT, TEMP1, TEMP2, UndefinedOpcode, ZERO } from './instruction.ts';
import { notLong, oneByte, simple, twoByte, widthOf, withModrm } from './tables.ts';

const ARITHMETIC = ['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor', 'cmp'] as const;
const RAX = STATE.REGS;
const RSP = STATE.REGS + 32;

/** op r/m, r and op r, r/m. */
function arithmetic(i: Instruction, name: string, toRegister: boolean): void {
  i.readModrm();
  const width = widthOf(i);
  const register = i.regOperand(width);
  if (i.isRegister) {
    const [a, b] = toRegister ? [register, i.rmOperand(width)] : [i.rmOperand(width), register];
    i.emit(uop`${name}${width}.rr`, a, b);
    return;
  }
  i.memory();
  if (toRegister) i.emit(uop`${name}${width}.rm`, register);
  else i.emit(uop`${name}${width}.mr`, ZERO, register);
}

/** op r/m, imm. */
function arithmeticImmediate(i: Instruction, name: string, width: number, immediateSize: number): void {
  if (i.isRegister) {
    const value = i.immediate(immediateSize);
    i.emit(uop`${name}${width}.ri`, i.rmOperand(width), ZERO, value);
    return;
  }
  const value = i.immediate(immediateSize);
  i.memory();
  i.emit(uop`${name}${width}.mi`, ZERO, ZERO, value);
}

ARITHMETIC.forEach((name, n) => {
  for (const low of [0, 1]) {
    oneByte[n * 8 + low] = simple((i) => arithmetic(i, name, false));
    oneByte[n * 8 + low + 2] = simple((i) => arithmetic(i, name, true));
    oneByte[n * 8 + low + 4] = simple((i) => {
      const width = widthOf(i);
      i.emit(uop`${name}${width}.ri`, RAX, ZERO, i.immediate(width));
    });
  }
});
for (const opcode of [0x80, 0x81, 0x83]) {
  oneByte[opcode] = withModrm((i) => {
    const width = widthOf(i);
    arithmeticImmediate(i, ARITHMETIC[i.reg & 7], width, opcode === 0x83 ? 8 : width);
  });
}
oneByte[0x82] = notLong(oneByte[0x80]);
for (const opcode of [0x84, 0x85]) oneByte[opcode] = simple((i) => arithmetic(i, 'test', false));
for (const opcode of [0xa8, 0xa9]) {
  oneByte[opcode] = simple((i) => {
    const width = widthOf(i);
    i.emit(uop`test${width}.ri`, RAX, ZERO, i.immediate(width));
  });
}

// INC and DEC r (REX in 64-bit mode)
for (let n = 0; n < 8; n++) {
  oneByte[0x40 + n] = notLong(simple((i) => i.emit(uop`inc${i.operandSize}.r`, i.gpr(n))));
  oneByte[0x48 + n] = notLong(simple((i) => i.emit(uop`dec${i.operandSize}.r`, i.gpr(n))));
}

// Group 3: TEST, NOT, NEG, MUL, IMUL, DIV, IDIV
for (const opcode of [0xf6, 0xf7]) {
  oneByte[opcode] = withModrm((i) => {
    const width = widthOf(i);
    switch (i.reg & 7) {
      case 0:
      case 1:
        arithmeticImmediate(i, 'test', width, width);
        break;
      case 2:
        i.modify(width, (r) => i.emit(uop`not${width}.r`, r));
        break;
      case 3:
        i.modify(width, (r) => i.emit(uop`neg${width}.r`, r));
        break;
      case 4:
        i.emit(uop`mul${width}.one`, ZERO, i.source(width));
        break;
      case 5:
        i.emit(uop`imul${width}.one`, ZERO, i.source(width));
        break;
      case 6:
        i.emit(uop`div${width}`, ZERO, i.source(width));
        break;
      default:
        i.emit(uop`idiv${width}`, ZERO, i.source(width));
    }
  });
}

// IMUL r, r/m[, imm]
for (const opcode of [0x69, 0x6b]) {
  oneByte[opcode] = withModrm((i) => {
    const width = i.operandSize;
    const immediate = (): number => i.immediate(opcode === 0x6b ? 8 : width);
    if (i.isRegister) {
      i.emit(uop`imul${width}.rri`, i.regOperand(width), i.rmOperand(width), immediate());
      return;
    }
    const factor = immediate();
    i.emit(uop`imul${width}.rri`, i.regOperand(width), i.source(width), factor);
  });
}
twoByte[0xaf] = withModrm((i) => {
  const width = i.operandSize;
  i.emit(uop`imul${width}.rr`, i.regOperand(width), i.source(width));
});

// Group 2: rotates and shifts
const SHIFTS = ['rol', 'ror', 'rcl', 'rcr', 'shl', 'shr', 'shl', 'sar'] as const;
function shift(i: Instruction, count: number | undefined): void {
  const width = widthOf(i);
  const name = SHIFTS[i.reg & 7];
  if (count === undefined) {
    i.modify(width, (r) => i.emit(uop`${name}${width}.rc`, r));
    return;
  }
  const masked = count & (width === 64 ? 63 : 31);
  // By more than 1 OF is not defined, which is cheaper.
  const form = masked === 1 || name === 'rcl' || name === 'rcr' ? 'ri' : 'rn';
  if (masked !== 0) i.modify(width, (r) => i.emit(uop`${name}${width}.${form}`, r, ZERO, masked));
  else i.modify(width, (r) => i.emit(uop`mov${width}.rr`, r, r));
}
for (const low of [0, 1]) {
  oneByte[0xc0 + low] = withModrm((i) => shift(i, i.u8()));
  oneByte[0xd0 + low] = withModrm((i) => shift(i, 1));
  oneByte[0xd2 + low] = withModrm((i) => shift(i, undefined));
}
for (const [opcode, name] of [
  [0xa4, 'shld'],
  [0xac, 'shrd'],
] as const) {
  twoByte[opcode] = withModrm((i) => {
    const width = i.operandSize;
    const count = i.u8() & (width === 64 ? 63 : 31);
    i.modify(width, (r) => i.emit(uop`${name}${width}.ri`, r, i.regOperand(width), count));
  });
  twoByte[opcode + 1] = withModrm((i) => {
    const width = i.operandSize;
    i.modify(width, (r) => i.emit(uop`${name}${width}.rc`, r, i.regOperand(width)));
  });
}

// MOV
for (const low of [0, 1]) {
  oneByte[0x88 + low] = withModrm((i) => {
    const width = widthOf(i);
    if (i.isRegister) {
      i.emit(uop`mov${width}.rr`, i.rmOperand(width), i.regOperand(width));
      return;
    }
    i.memory();
    i.emit(uop`mov${width}.mr`, ZERO, i.regOperand(width));
  });
  oneByte[0x8a + low] = withModrm((i) => {
    const width = widthOf(i);
    if (i.isRegister) {
      i.emit(uop`mov${width}.rr`, i.regOperand(width), i.rmOperand(width));
      return;
    }
    i.memory();
    i.emit(uop`mov${width}.rm`, i.regOperand(width));
  });
  oneByte[0xc6 + low] = withModrm((i) => {
    if ((i.reg & 7) !== 0) throw new UndefinedOpcode('group 11');
    const width = widthOf(i);
    const value = i.immediate(width);
    if (i.isRegister) {
      i.emit(uop`mov${width}.ri`, i.rmOperand(width), ZERO, value);
      return;
    }
    i.memory();
    i.emit(uop`mov${width}.mi`, ZERO, ZERO, value);
  });
  oneByte[0xa0 + low] = simple((i) => {
    absolute(i);
    i.emit(uop`mov${widthOf(i)}.rm`, RAX);
  });
  oneByte[0xa2 + low] = simple((i) => {
    absolute(i);
    i.emit(uop`mov${widthOf(i)}.mr`, ZERO, RAX);
  });
}
function absolute(i: Instruction): void {
  if (i.addressSize === 64) {
    const low = i.s32();
    i.setAbsolute(low, i.s32());
  } else {
    const low = i.addressSize === 16 ? i.u16() : i.s32();
    i.setAbsolute(low, low >> 31);
  }
  i.memory();
}
for (let n = 0; n < 8; n++) {
  oneByte[0xb0 + n] = simple((i) => {
    i.emit(uop`mov8.ri`, i.register(n | ((i.rex & 1) << 3), 8), ZERO, i.u8());
  });
  oneByte[0xb8 + n] = simple((i) => {
    const to = i.gpr(n | ((i.rex & 1) << 3));
    const low = i.operandSize === 16 ? i.u16() : i.s32();
    if (i.operandSize === 64) i.emit(uop`mov64.ri`, to, ZERO, low, i.s32());
    else i.emit(uop`mov${i.operandSize}.ri`, to, ZERO, low);
  });
  // XCHG rAX, r; 90 is NOP (and PAUSE) unless REX.B makes it R8
  oneByte[0x90 + n] = simple((i) => {
    const other = n | ((i.rex & 1) << 3);
    if (other === 0) i.emit(uop`nop`);
    else i.emit(uop`xchg${i.operandSize}.rr`, RAX, i.gpr(other));
  });
}
for (const opcode of [0x86, 0x87]) {
  oneByte[opcode] = withModrm((i) => {
    const width = widthOf(i);
    if (i.isRegister) {
      i.emit(uop`xchg${width}.rr`, i.rmOperand(width), i.regOperand(width));
      return;
    }
    i.memory();
    i.emit(uop`xchg${width}.mr`, ZERO, i.regOperand(width));
  });
}
oneByte[0x8d] = withModrm((i) => {
  if (i.isRegister) throw new UndefinedOpcode('LEA of a register');
  const to = i.gpr(i.reg);
  if (i.addressSize >= i.operandSize && !(i.addressSize === 32 && i.operandSize === 64)) {
    i.emit(uop`lea${i.operandSize}`, to);
    return;
  }
  i.emit(i.addressSize === 16 ? uop`ea16` : uop`ea32`, TEMP1);
  i.emit(uop`mov${i.operandSize}.rr`, to, TEMP1);
});
// MOVSXD
oneByte[0x63] = withModrm((i) => {
  if (!i.long) {
    arpl(i);
    return;
  }
  const to = i.gpr(i.reg);
  if (i.operandSize !== 64) i.emit(uop`mov${i.operandSize}.rr`, to, i.source(i.operandSize));
  else if (i.isRegister) i.emit(uop`movsx64.32.rr`, to, i.rmOperand(32));
  else {
    i.memory();
    i.emit(uop`movsx64.32.rm`, to);
  }
});
function arpl(i: Instruction): void {
  i.modify(16, (r) => i.emit(uop`arpl`, r, i.regOperand(16)));
}
for (const [opcode, name, from] of [
  [0xb6, 'movzx', 8],
  [0xb7, 'movzx', 16],
  [0xbe, 'movsx', 8],
  [0xbf, 'movsx', 16],
] as const) {
  twoByte[opcode] = withModrm((i) => {
    if (i.isRegister) i.emit(uop`${name}${i.operandSize}.${from}.rr`, i.gpr(i.reg), i.rmOperand(from));
    else {
      i.memory();
      i.emit(uop`${name}${i.operandSize}.${from}.rm`, i.gpr(i.reg));
    }
  });
}

// CBW/CWDE/CDQE and CWD/CDQ/CQO
oneByte[0x98] = simple((i) => i.emit(uop`extendA${i.operandSize}`));
oneByte[0x99] = simple((i) => i.emit(uop`extendD${i.operandSize}`));

// Stack
for (let n = 0; n < 8; n++) {
  oneByte[0x50 + n] = simple((i) => i.emit(uop`push${i.stack}.r`, ZERO, i.gpr(n | ((i.rex & 1) << 3))));
  oneByte[0x58 + n] = simple((i) => i.emit(uop`pop${i.stack}.r`, i.gpr(n | ((i.rex & 1) << 3))));
}
oneByte[0x68] = simple((i) => i.emit(uop`push${i.stack}.i`, ZERO, ZERO, i.immediate(i.stackWidth)));
oneByte[0x6a] = simple((i) => i.emit(uop`push${i.stack}.i`, ZERO, ZERO, i.s8()));
oneByte[0x8f] = withModrm((i) => {
  if ((i.reg & 7) !== 0) throw new UndefinedOpcode('group 1A');
  if (i.isRegister) {
    i.emit(uop`pop${i.stack}.r`, i.gpr(i.rm));
    return;
  }
  if (i.long) i.probeStack(i.stackWidth);
  // An RSP-based address is computed after the pop has moved RSP.
  if (i.base === RSP) i.disp += i.stackWidth / 8;
  i.memory();
  i.emit(uop`pop${i.stack}.m`);
});
oneByte[0x60] = notLong((i) => {
  i.emit(uop`probepush${i.stackWidth}.${i.stackPointer}`);
  i.emit(uop`mov64.rr`, TEMP1, RSP);
  for (let n = 0; n < 8; n++) i.emit(uop`push${i.stack}.part`, ZERO, n === 4 ? TEMP1 : i.gpr(n));
  // Any of the stores may have hit this block.
  return FLOW.CHECK;
});
oneByte[0x61] = notLong(
  simple((i) => {
    i.emit(uop`probepop${i.stackWidth}.${i.stackPointer}`);
    for (let n = 7; n >= 0; n--) i.emit(uop`pop${i.stack}.r`, n === 4 ? TEMP2 : i.gpr(n));
  }),
);
oneByte[0x9c] = simple((i) => {
  i.emit(uop`pushf`, TEMP1);
  i.emit(uop`push${i.stack}.r`, ZERO, TEMP1);
});
oneByte[0x9d] = (i) => {
  i.emit(uop`popf${i.stack}`);
  return FLOW.CHECK;
};
oneByte[0xc9] = simple((i) => i.emit(uop`leave${i.stack}`));
oneByte[0xc8] = simple((i) => {
  const size = i.u16();
  i.emit(uop`enter${i.stackWidth}`, ZERO, ZERO, size | ((i.u8() & 31) << 16));
});
[SEGMENT.ES, SEGMENT.CS, SEGMENT.SS, SEGMENT.DS].forEach((segment) => {
  oneByte[0x06 + segment * 8] = notLong(simple((i) => pushSegment(i, segment)));
  if (segment === SEGMENT.CS) return;
  oneByte[0x07 + segment * 8] = notLong((i) => {
    i.emit(uop`popseg${i.stack}`, ZERO, ZERO, segment);
    return segment === SEGMENT.SS ? FLOW.SHADOW : FLOW.NEXT;
  });
});
for (const [segment, push] of [
  [SEGMENT.FS, 0xa0],
  [SEGMENT.GS, 0xa8],
] as const) {
  twoByte[push] = simple((i) => pushSegment(i, segment));
  twoByte[push + 1] = simple((i) => i.emit(uop`popseg${i.stack}`, ZERO, ZERO, segment));
}
function pushSegment(i: Instruction, segment: number): void {
  i.emit(uop`movzx32.16.rr`, TEMP1, STATE.SEG_SEL + segment * 4);
  i.emit(uop`push${i.stack}.r`, ZERO, TEMP1);
}

// CMOVcc, SETcc
for (let code = 0; code < 16; code++) {
  twoByte[0x40 + code] = withModrm((i) => {
    const width = i.operandSize;
    i.emit(uop`cmov${code}.${width}`, i.gpr(i.reg), i.source(width));
  });
  twoByte[0x90 + code] = withModrm((i) => {
    if (i.isRegister) {
      i.emit(uop`set${code}.r`, i.rmOperand(8));
      return;
    }
    i.memory();
    i.emit(uop`set${code}.r`, TEMP1);
    i.emit(uop`mov8.mr`, ZERO, TEMP1);
  });
}

// Bit operations
const BIT_OPERATIONS = ['bt', 'bts', 'btr', 'btc'] as const;
BIT_OPERATIONS.forEach((name, n) => {
  twoByte[0xa3 + n * 8] = withModrm((i) => {
    const width = i.operandSize;
    const index = i.gpr(i.reg);
    if (!i.isRegister) i.bitAddress();
    if (n === 0) i.emit(uop`bt${width}.rr`, i.source(width), index);
    else i.modify(width, (r) => i.emit(uop`${name}${width}.rr`, r, index));
  });
});
twoByte[0xba] = withModrm((i) => {
  const name = BIT_OPERATIONS[(i.reg & 7) - 4];
  if (name === undefined) throw new UndefinedOpcode('group 8');
  const width = i.operandSize;
  const index = i.u8();
  if (name === 'bt') i.emit(uop`bt${width}.ri`, i.source(width), ZERO, index);
  else i.modify(width, (r) => i.emit(uop`${name}${width}.ri`, r, ZERO, index));
});
// BSF and BSR; with F3 (TZCNT, LZCNT) they are the same here, as BMI1 and LZCNT are not declared.
twoByte[0xbc] = withModrm((i) => i.emit(uop`bsf${i.operandSize}`, i.gpr(i.reg), i.source(i.operandSize)));
twoByte[0xbd] = withModrm((i) => i.emit(uop`bsr${i.operandSize}`, i.gpr(i.reg), i.source(i.operandSize)));
twoByte[0xb8] = withModrm((i) => {
  if (i.repeat !== 0xf3) throw new UndefinedOpcode('JMPE');
  i.emit(uop`popcnt${i.operandSize}`, i.gpr(i.reg), i.source(i.operandSize));
});
for (let n = 0; n < 8; n++) {
  twoByte[0xc8 + n] = simple((i) =>
    i.emit(uop`bswap${i.operandSize === 64 ? 64 : 32}`, i.gpr(n | ((i.rex & 1) << 3))),
  );
}

// CMPXCHG, XADD, CMPXCHG8B/16B
for (const low of [0, 1]) {
  twoByte[0xb0 + low] = withModrm((i) => {
    const width = widthOf(i);
    i.modify(width, (r) => i.emit(uop`cmpxchg${width}`, r, i.regOperand(width)), RAX);
  });
  twoByte[0xc0 + low] = withModrm((i) => {
    const width = widthOf(i);
    const register = i.regOperand(width);
    i.modify(width, (r) => i.emit(uop`xadd${width}.rr`, r, register), register);
  });
}
twoByte[0xc7] = withModrm((i) => {
  if (i.isRegister || (i.reg & 7) !== 1) throw new UndefinedOpcode('group 9');
  i.memory();
  i.emit(i.rex & 8 ? uop`cmpxchg16b` : uop`cmpxchg8b`);
});

// Flags
for (const [opcode, name] of [
  [0xf5, 'cmc'],
  [0xf8, 'clc'],
  [0xf9, 'stc'],
  [0xfc, 'cld'],
  [0xfd, 'std'],
  [0x9e, 'sahf'],
  [0x9f, 'lahf'],
] as const) {
  oneByte[opcode] = simple((i) => i.emit(uop`${name}`));
}
for (const [opcode, name] of [
  [0x27, 'daa'],
  [0x2f, 'das'],
  [0x37, 'aaa'],
  [0x3f, 'aas'],
  [0xd6, 'salc'],
] as const) {
  oneByte[opcode] = notLong(simple((i) => i.emit(uop`${name}`)));
}
for (const [opcode, name] of [
  [0xd4, 'aam'],
  [0xd5, 'aad'],
] as const) {
  oneByte[opcode] = notLong(simple((i) => i.emit(uop`${name}`, ZERO, ZERO, i.u8())));
}
// XLAT
oneByte[0xd7] = simple((i) => {
  i.base = 3 * 8;
  i.emit(uop`movzx32.8.rr`, TEMP1, RAX);
  i.index = TEMP1;
  i.memory();
  i.emit(uop`mov8.rm`, RAX);
});
