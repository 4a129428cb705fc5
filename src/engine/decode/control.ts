/** Jumps, calls, returns, loops, far transfers, interrupts. */
import { uop } from '../uops/index.ts';
import { FLOW, type Flow, type Instruction, TEMP1, TEMP2, UndefinedOpcode, ZERO } from './instruction.ts';
import { notLong, oneByte, twoByte } from './tables.ts';

/** Near branches ignore the operand size prefix in 64-bit mode, as Intel processors do. */
const branchSize = (i: Instruction): number => (i.long ? 64 : i.operandSize);

const displacement = (i: Instruction, short: boolean): number =>
  short ? i.s8() : i.immediate(branchSize(i) === 16 ? 16 : 32);

function conditional(op: number, i: Instruction, short: boolean): Flow {
  const by = displacement(i, short);
  i.emit(op, ZERO, ZERO, i.branchTarget(by));
  return FLOW.NEXT;
}

for (let code = 0; code < 16; code++) {
  oneByte[0x70 + code] = (i) => conditional(uop`jcc${code}`, i, true);
  twoByte[0x80 + code] = (i) => conditional(uop`jcc${code}`, i, false);
}
['loopne', 'loope', 'loop', 'jcxz'].forEach((name, n) => {
  oneByte[0xe0 + n] = (i) => conditional(uop`${name}${i.addressSize}`, i, true);
});
for (const [opcode, short] of [
  [0xe9, false],
  [0xeb, true],
] as const) {
  oneByte[opcode] = (i) => {
    const by = displacement(i, short);
    i.emit(uop`jmp`, ZERO, ZERO, i.branchTarget(by));
    return FLOW.END;
  };
}
/** Width of a near call's or return's stack slot, with the width of the stack pointer. */
const callSuffix = (i: Instruction): string => (i.long ? '64.64' : i.stack);

oneByte[0xe8] = (i) => {
  const by = displacement(i, false);
  i.emit(uop`call${callSuffix(i)}`, ZERO, ZERO, i.branchTarget(by));
  return FLOW.END;
};
oneByte[0xc3] = (i) => {
  i.emit(uop`ret${callSuffix(i)}`);
  return FLOW.END;
};
oneByte[0xc2] = (i) => {
  i.emit(uop`ret${callSuffix(i)}`, ZERO, ZERO, i.u16());
  return FLOW.END;
};

const bytes = (size: number): number => size / 8;

/** Direct far transfers; IMM packs offset, selector and operand size. */
function farDirect(i: Instruction, name: string): Flow {
  const offset = i.operandSize === 16 ? i.u16() : i.s32();
  const selector = i.u16();
  i.emit(uop`${name}`, ZERO, ZERO, offset, selector | (bytes(i.operandSize) << 16));
  return FLOW.END;
}
oneByte[0xea] = notLong((i) => farDirect(i, 'farjmp'));
oneByte[0x9a] = notLong((i) => farDirect(i, 'farcall'));

function farIndirect(i: Instruction, name: string): Flow {
  if (i.isRegister) throw new UndefinedOpcode('far transfer through a register');
  loadFarPointer(i);
  i.emit(uop`${name}`, TEMP1, TEMP2, bytes(i.operandSize));
  return FLOW.END;
}

/** Loads m16:16, m16:32 or m16:64: the offset into TEMP1, the selector into TEMP2. */
export function loadFarPointer(i: Instruction): void {
  i.memory();
  i.emit(uop`mov${i.operandSize}.rm`, TEMP1);
  if (i.operandSize === 16) i.emit(uop`movzx32.16.rr`, TEMP1, TEMP1);
  i.disp += bytes(i.operandSize);
  i.emit(uop`movzx32.16.rm`, TEMP2);
  i.disp -= bytes(i.operandSize);
}

// Groups 4 and 5
oneByte[0xfe] = (i) => {
  i.readModrm();
  incrementOrDecrement(i, 8);
  return FLOW.NEXT;
};
oneByte[0xff] = (i) => {
  i.readModrm();
  switch (i.reg & 7) {
    case 0:
    case 1:
      incrementOrDecrement(i, i.operandSize);
      return FLOW.NEXT;
    case 2: {
      const size = branchSize(i);
      i.emit(uop`call${callSuffix(i)}.r`, ZERO, i.source(size));
      return FLOW.END;
    }
    case 3:
      return farIndirect(i, 'farcall.r');
    case 4: {
      const size = branchSize(i);
      i.emit(uop`jmp${size}.r`, ZERO, i.source(size));
      return FLOW.END;
    }
    case 5:
      return farIndirect(i, 'farjmp.r');
    case 6:
      i.emit(uop`push${i.stack}.r`, ZERO, i.source(i.stackWidth));
      return FLOW.NEXT;
    default:
      throw new UndefinedOpcode('group 5');
  }
};
function incrementOrDecrement(i: Instruction, width: number): void {
  const which = i.reg & 7;
  if (which > 1) throw new UndefinedOpcode('group 4');
  const name = which === 0 ? 'inc' : 'dec';
  if (i.isRegister) {
    i.emit(uop`${name}${width}.r`, i.rmOperand(width));
    return;
  }
  i.memory();
  i.emit(uop`${name}${width}.m`);
}

oneByte[0xca] = (i) => {
  i.emit(uop`farret`, ZERO, ZERO, i.u16() | (bytes(i.operandSize) << 16));
  return FLOW.END;
};
oneByte[0xcb] = (i) => {
  i.emit(uop`farret`, ZERO, ZERO, bytes(i.operandSize) << 16);
  return FLOW.END;
};
oneByte[0xcf] = (i) => {
  i.emit(uop`iret`, ZERO, ZERO, bytes(i.operandSize));
  return FLOW.END;
};
oneByte[0xcc] = (i) => {
  i.emit(uop`int`, ZERO, ZERO, 3);
  return FLOW.END;
};
oneByte[0xcd] = (i) => {
  i.emit(uop`int`, ZERO, ZERO, i.u8());
  return FLOW.END;
};
oneByte[0xce] = notLong((i) => {
  i.emit(uop`into`);
  return FLOW.CHECK;
});
oneByte[0xf1] = (i) => {
  i.emit(uop`icebp`);
  return FLOW.END;
};
