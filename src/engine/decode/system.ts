/** System instructions, string instructions, port I/O. */
import { MODE, STATE } from '../layout.ts';
import { uop } from '../uops/index.ts';
import { loadFarPointer } from './control.ts';
import { FLOW, type Instruction, SEGMENT, TEMP1, UndefinedOpcode, ZERO } from './instruction.ts';
import { type Handler, notLong, oneByte, simple, table38, twoByte, withModrm } from './tables.ts';

const bytes = (size: number): number => size / 8;

// MOV to and from segment registers
oneByte[0x8c] = withModrm((i) => {
  const segment = i.reg & 7;
  if (segment > 5) throw new UndefinedOpcode('segment register');
  const selector = STATE.SEG_SEL + segment * 4;
  if (i.isRegister) {
    i.emit(i.operandSize === 16 ? uop`mov16.rr` : uop`movzx32.16.rr`, i.gpr(i.rm), selector);
    return;
  }
  i.memory();
  i.emit(uop`mov16.mr`, ZERO, selector);
});
oneByte[0x8e] = (i) => {
  i.readModrm();
  const segment = i.reg & 7;
  if (segment > 5 || segment === SEGMENT.CS) throw new UndefinedOpcode('segment register');
  i.emit(uop`loadsegment`, ZERO, i.source(16), segment);
  return segment === SEGMENT.SS ? FLOW.SHADOW : FLOW.NEXT;
};
function loadFar(segment: number): Handler {
  return (i) => {
    i.readModrm();
    if (i.isRegister) throw new UndefinedOpcode('far pointer in a register');
    loadFarPointer(i);
    i.emit(uop`loadfar${i.operandSize}`, i.gpr(i.reg), TEMP1, segment);
    return FLOW.CHECK;
  };
}
oneByte[0xc4] = notLong(loadFar(SEGMENT.ES));
oneByte[0xc5] = notLong(loadFar(SEGMENT.DS));
twoByte[0xb2] = loadFar(SEGMENT.SS);
twoByte[0xb4] = loadFar(SEGMENT.FS);
twoByte[0xb5] = loadFar(SEGMENT.GS);
oneByte[0x62] = notLong(
  withModrm((i) => {
    if (i.isRegister) throw new UndefinedOpcode('BOUND of registers');
    i.memory();
    i.emit(uop`bound${i.operandSize}`, i.gpr(i.reg));
  }),
);

// Group 6
twoByte[0x00] = (i) => {
  i.readModrm();
  if (i.mode & MODE.REAL) throw new UndefinedOpcode('group 6 in real mode');
  switch (i.reg & 7) {
    case 0:
      storeWord(i, 'sldt');
      return FLOW.NEXT;
    case 1:
      storeWord(i, 'str');
      return FLOW.NEXT;
    case 2:
      i.emit(uop`lldt`, ZERO, i.source(16));
      return FLOW.CHECK;
    case 3:
      i.emit(uop`ltr`, ZERO, i.source(16));
      return FLOW.CHECK;
    case 4:
      i.emit(uop`verr`, ZERO, i.source(16));
      return FLOW.NEXT;
    case 5:
      i.emit(uop`verw`, ZERO, i.source(16));
      return FLOW.NEXT;
    default:
      throw new UndefinedOpcode('group 6');
  }
};

/** SLDT, STR, SMSW: 16 bits to memory, the operand size to a register. */
function storeWord(i: Instruction, name: string): void {
  i.emit(uop`${name}`, TEMP1);
  if (i.isRegister) {
    i.emit(uop`mov${i.operandSize}.rr`, i.gpr(i.rm), TEMP1);
    return;
  }
  i.memory();
  i.emit(uop`mov16.mr`, ZERO, TEMP1);
}

// Group 7
const TABLES = ['sgdt', 'sidt', 'lgdt', 'lidt'] as const;
twoByte[0x01] = (i) => {
  i.readModrm();
  const which = i.reg & 7;
  if (which === 4) {
    storeWord(i, 'smsw');
    return FLOW.NEXT;
  }
  if (which === 6) {
    i.emit(uop`lmsw`, ZERO, i.source(16));
    return FLOW.CHECK;
  }
  if (i.isRegister) return group7Register(i);
  i.memory();
  if (which === 7) i.emit(uop`invlpg`);
  else if (which < 4) i.emit(uop`${TABLES[which]}`, ZERO, ZERO, i.long ? 8 : bytes(i.operandSize));
  else throw new UndefinedOpcode('group 7');
  return FLOW.CHECK;
};
const GROUP7: Readonly<Record<number, string>> = { 0xca: 'clac', 0xcb: 'stac', 0xf9: 'rdtscp' };
function group7Register(i: Instruction): typeof FLOW.NEXT {
  const name = i.modrm === 0xf8 && i.long ? 'swapgs' : GROUP7[i.modrm];
  if (name === undefined) throw new UndefinedOpcode('group 7');
  i.emit(uop`${name}`);
  return FLOW.NEXT;
}

// INVPCID
table38[0x82] = (i) => {
  i.readModrm();
  if (!i.prefix66 || i.isRegister) throw new UndefinedOpcode('INVPCID');
  i.memory();
  i.emit(uop`invpcid`, i.gpr(i.reg));
  return FLOW.CHECK;
};

for (const [opcode, name] of [
  [0x02, 'lar'],
  [0x03, 'lsl'],
] as const) {
  twoByte[opcode] = withModrm((i) => {
    if (i.mode & MODE.REAL) throw new UndefinedOpcode('in real mode');
    i.emit(uop`${name}${i.operandSize}`, i.gpr(i.reg), i.source(16));
  });
}

/** Instructions without operands, and whether the block may go on behind them. */
const PLAIN: readonly (readonly [Handler[], number, string, 'next' | 'check' | 'end'])[] = [
  [oneByte, 0xf4, 'hlt', 'end'],
  [oneByte, 0xfa, 'cli', 'next'],
  [twoByte, 0x05, 'syscall', 'end'],
  [twoByte, 0x06, 'clts', 'check'],
  [twoByte, 0x08, 'wbinvd', 'next'],
  [twoByte, 0x09, 'wbinvd', 'next'],
  [twoByte, 0x30, 'wrmsr', 'check'],
  [twoByte, 0x31, 'rdtsc', 'next'],
  [twoByte, 0x32, 'rdmsr', 'next'],
  [twoByte, 0x33, 'rdpmc', 'next'],
  [twoByte, 0x34, 'sysenter', 'end'],
  [twoByte, 0xa2, 'cpuid', 'next'],
];
for (const [table, opcode, name, flow] of PLAIN) {
  const result = flow === 'next' ? FLOW.NEXT : flow === 'check' ? FLOW.CHECK : FLOW.END;
  table[opcode] = (i) => {
    i.emit(uop`${name}`);
    return result;
  };
}
oneByte[0xfb] = (i) => {
  i.emit(uop`sti`);
  return FLOW.SHADOW;
};
twoByte[0x07] = (i) => {
  i.emit(uop`sysret`, ZERO, ZERO, i.rex & 8 ? 1 : 0);
  return FLOW.END;
};
twoByte[0x35] = (i) => {
  i.emit(uop`sysexit`, ZERO, ZERO, i.rex & 8 ? 1 : 0);
  return FLOW.END;
};
twoByte[0x0b] = () => {
  throw new UndefinedOpcode('UD2');
};

// Control and debug registers: ModRM is always a register form.
function special(opcode: number, name: string, toRegister: boolean): void {
  twoByte[opcode] = (i) => {
    i.readModrm();
    i.rm = (i.modrm & 7) | ((i.rex & 1) << 3);
    if (toRegister) i.emit(uop`mov.r.${name}`, TEMP1, ZERO, i.reg);
    else i.emit(uop`mov.${name}.r`, ZERO, i.gpr(i.rm), i.reg);
    if (toRegister) i.emit(uop`mov${i.long ? 64 : 32}.rr`, i.gpr(i.rm), TEMP1);
    return toRegister ? FLOW.NEXT : FLOW.CHECK;
  };
}
special(0x20, 'cr', true);
special(0x22, 'cr', false);
special(0x21, 'dr', true);
special(0x23, 'dr', false);

// Hints and multi-byte NOPs
for (const opcode of [0x0d, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f]) {
  twoByte[opcode] = withModrm((i) => i.emit(uop`nop`));
}

// Group 15: FXSAVE, FXRSTOR, LDMXCSR, STMXCSR, fences, FSGSBASE, CLFLUSH
twoByte[0xae] = (i) => {
  i.readModrm();
  return i.isRegister ? group15Register(i) : group15Memory(i);
};
function group15Register(i: Instruction): typeof FLOW.NEXT {
  const which = i.reg & 7;
  if (which >= 5 && i.repeat === 0) {
    i.emit(uop`nop`);
    return FLOW.NEXT;
  }
  if (i.repeat !== 0xf3 || which > 3 || !i.long) throw new UndefinedOpcode('group 15');
  const segment = which & 1 ? SEGMENT.GS : SEGMENT.FS;
  const width = i.operandSize === 64 ? 64 : 32;
  if (which < 2) i.emit(uop`rdsegbase${width}`, i.gpr(i.rm), ZERO, segment);
  else i.emit(uop`wrsegbase${width}`, ZERO, i.gpr(i.rm), segment);
  return FLOW.NEXT;
}
function group15Memory(i: Instruction): typeof FLOW.NEXT {
  const which = i.reg & 7;
  i.memory();
  if (which === 0 || which === 1) {
    i.emit(which === 0 ? uop`fxsave` : uop`fxrstor`, ZERO, ZERO, i.rex & 8 ? 1 : 0);
  } else if (which === 2 || which === 3) {
    i.requireSse();
    if (which === 2) {
      i.emit(uop`mov32.rm`, TEMP1);
      i.emit(uop`ldmxcsr`, ZERO, TEMP1);
    } else {
      i.emit(uop`stmxcsr`, TEMP1);
      i.emit(uop`mov32.mr`, ZERO, TEMP1);
    }
  } else if (which === 7) {
    // CLFLUSH faults as a load does.
    i.emit(uop`mov8.rm`, TEMP1);
  } else {
    throw new UndefinedOpcode('group 15');
  }
  return FLOW.NEXT;
}

// Strings
const STRINGS: readonly (readonly [number, string])[] = [
  [0x6c, 'ins'],
  [0x6e, 'outs'],
  [0xa4, 'movs'],
  [0xa6, 'cmps'],
  [0xaa, 'stos'],
  [0xac, 'lods'],
  [0xae, 'scas'],
];
for (const [opcode, name] of STRINGS) {
  for (const low of [0, 1]) {
    oneByte[opcode + low] = (i) => {
      const port = name === 'ins' || name === 'outs';
      const width = low === 0 ? 8 : port && i.operandSize === 64 ? 32 : i.operandSize;
      const repeat = i.repeat === 0xf3 ? 1 : i.repeat === 0xf2 ? 2 : 0;
      const args = bytes(width) | (bytes(i.addressSize) << 8) | (repeat << 16);
      i.emit(uop`${name}`, ZERO, i.segmentBase(SEGMENT.DS), args);
      return port ? FLOW.CHECK : FLOW.NEXT;
    };
  }
}

// Port I/O
for (const [opcode, name] of [
  [0xe4, 'in'],
  [0xe6, 'out'],
] as const) {
  for (const low of [0, 1]) {
    const width = (i: Instruction): number => (low === 0 ? 8 : i.operandSize === 16 ? 16 : 32);
    oneByte[opcode + low] = (i) => {
      i.emit(uop`${name}${width(i)}.i`, ZERO, ZERO, i.u8());
      return FLOW.CHECK;
    };
    oneByte[opcode + 8 + low] = (i) => {
      i.emit(uop`${name}${width(i)}.d`);
      return FLOW.CHECK;
    };
  }
}
oneByte[0x9b] = simple((i) => {
  i.requireFpu();
  i.emit(uop`fwait`);
});
