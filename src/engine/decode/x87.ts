/** x87 escapes D8…DF. The arithmetic is in the core runtime; here only operand sizes matter. */
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
const forms = FORMS.map((row) => row.split(' '));

const LOAD_ENVIRONMENT = 4;
const FULL = 5;

/** FLDENV, FNSTENV (D9 /4, /6), FRSTOR, FNSAVE (DD /4, /6). */
function environment(i: Instruction, escape: number): void {
  const full = escape === FULL;
  const wide = i.operandSize !== 16;
  const bytes = (wide ? 28 : 14) + (full ? 80 : 0);
  const name = (i.reg & 7) === LOAD_ENVIRONMENT ? 'x87.loadenv' : 'x87.storeenv';
  i.emit(name, ZERO, ZERO, bytes | (wide ? 1 << 16 : 0) | (full ? 1 << 17 : 0));
}

for (let escape = 0; escape < 8; escape++) {
  oneByte[0xd8 + escape] = withModrm((i) => {
    i.requireFpu();
    if (i.isRegister) {
      i.emit('x87.register', ZERO, ZERO, (escape << 6) | (i.modrm & 0x3f));
      return;
    }
    const which = i.reg & 7;
    const form = forms[escape][which];
    if (form === '-') throw new UndefinedOpcode('x87');
    i.memory();
    if (form === 'E') {
      environment(i, escape);
      return;
    }
    const direction = form[0] === 'r' ? 'read' : 'write';
    i.emit(`x87.${direction}${form.slice(1)}`, ZERO, ZERO, (escape << 3) | which);
  });
}
