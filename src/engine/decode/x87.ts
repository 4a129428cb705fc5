/** x87 escapes D8…DF. The arithmetic is in the core runtime; here only operand sizes matter. */
import { uop } from '../uops/index.ts';
import { type Instruction, UndefinedOpcode, ZERO } from './instruction.ts';
import { oneByte, withModrm } from './tables.ts';

/** Memory forms of each escape by ModRM.reg: r or w and the operand's bytes, - undefined, E environment. */
const FORMS: readonly string[] = [
  'r4 r4 r4 r4 r4 r4 r4 r4',
  'r4 - w4 w4 E r2 E w2',
  'r4 r4 r4 r4 r4 r4 r4 r4',
  'r4 w4 w4 w4 - r10 - w10',
  'r8 r8 r8 r8 r8 r8 r8 r8',
  'r8 w8 w8 w8 E - E w2',
  'r2 r2 r2 r2 r2 r2 r2 r2',
  'r2 w2 w2 w2 r10 r8 w10 w8',
];
const DIRECTIONS: Readonly<Record<string, string>> = { r: 'read', w: 'write' };
/** The same with what micro-ops are called. */
const forms = FORMS.map((row) => row.replace(/[rw](?=\d)/g, (letter) => DIRECTIONS[letter]!).split(' '));

/** FENI, FDISI, FNCLEX, FNINIT, FSETPM; FNSTSW AX: their addresses are not recorded. */
const CONTROL = new Set([0xe0, 0xe1, 0xe2, 0xe3, 0xe4].map((modrm) => (3 << 6) | (modrm & 0x3f)));
CONTROL.add((7 << 6) | 0x20);
/** FLDCW, FNSTCW and FNSTSW by escape and ModRM.reg. */
const CONTROL_FORMS: Readonly<Record<number, string>> = {
  [(1 << 3) | 5]: 'loadcontrol',
  [(1 << 3) | 7]: 'storecontrol',
  [(5 << 3) | 7]: 'storecontrol',
};

const LOAD_ENVIRONMENT = 4;
const FULL = 5;

/** FLDENV, FNSTENV (D9 /4, /6), FRSTOR, FNSAVE (DD /4, /6). */
function environment(i: Instruction, escapeOpcode: number): void {
  const full = escapeOpcode === FULL;
  const wide = i.operandSize !== 16;
  const bytes = (wide ? 28 : 14) + (full ? 80 : 0);
  const name = (i.reg & 7) === LOAD_ENVIRONMENT ? 'x87.loadenv' : 'x87.storeenv';
  i.emit(uop`${name}`, ZERO, ZERO, bytes | (wide ? 1 << 16 : 0) | (full ? 1 << 17 : 0));
}

for (let escapeOpcode = 0; escapeOpcode < 8; escapeOpcode++) {
  oneByte[0xd8 + escapeOpcode] = withModrm((i) => {
    i.requireFpu();
    if (i.isRegister) {
      const code = (escapeOpcode << 6) | (i.modrm & 0x3f);
      i.emit(CONTROL.has(code) ? uop`x87.control` : uop`x87.register`, ZERO, ZERO, code, i.place);
      return;
    }
    const which = i.reg & 7;
    const form = forms[escapeOpcode][which];
    if (form === '-') throw new UndefinedOpcode('x87');
    i.memory();
    if (form === 'E') {
      environment(i, escapeOpcode);
      return;
    }
    i.emit(
      uop`x87.${CONTROL_FORMS[(escapeOpcode << 3) | which] ?? form}`,
      ZERO,
      ZERO,
      (escapeOpcode << 3) | which,
      i.place,
    );
  });
}
