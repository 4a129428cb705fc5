/** Branches: taken or not, they end within the page of the instruction under test. */
import type { Form, Operands } from './form.ts';
import { PLACE } from './layout.ts';
import type { TestCase } from './test-case.ts';

const RCX = 1;

const RSP = 4;
/** Not an address: the branch itself faults. */
const NOT_CANONICAL = 0x0001_0000_0000_0000n;

type Details = Omit<Form, 'name' | 'family' | 'opcode'>;
const form = (name: string, opcode: readonly number[], details: Details = {}): Form => ({
  name,
  family: 'control',
  opcode,
  ...details,
});

/** Displacements that do not lead back to the instruction itself. */
const SHORT = [0, 1, 5, 100, 127, -128, -100, -40];
const NEAR = [0, 1000, -1000, 300, -300];
const rel8 = (value: number): number => value & 0xff;
const rel32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >> shift) & 0xff);

function stack(test: TestCase): void {
  test.pin(RSP, BigInt(test.address(64) + 32));
}

/** A place in the code page, not too near the instruction. */
const destination = (test: TestCase): bigint => BigInt(PLACE.CODE + 64 + test.random.below(1000));

/** The target of an indirect branch: in a register, or in each 8 bytes of the window. */
function indirect(test: TestCase, { rm }: Operands): void {
  stack(test);
  const to = test.random.chance(10) ? NOT_CANONICAL : destination(test);
  if (rm === RSP) test.registers[RSP] = to;
  else if (rm >= 0) test.pin(rm, to);
  else for (let at = PLACE.WINDOW; at < PLACE.WINDOW + 320; at += 8) test.poke(at, to);
}

function conditional(): Form[] {
  return Array.from({ length: 16 }, (_, c) => c).flatMap((c) => [
    ...SHORT.slice(2, 6).map((d) => form(`j${c} rel8 ${d}`, [0x70 + c, rel8(d)])),
    ...NEAR.slice(1, 3).map((d) => form(`j${c} rel32 ${d}`, [0x0f, 0x80 + c, ...rel32(d)])),
  ]);
}

function loops(): Form[] {
  const names = ['loopne', 'loope', 'loop', 'jrcxz'];
  const few = (test: TestCase): void => {
    const values = [0n, 1n, 2n, 1n << 32n, (1n << 32n) + 1n, -1n];
    test.pin(RCX, test.random.pick(values));
  };
  return names.flatMap((name, n) => [
    form(name, [0xe0 + n, rel8(40)], { prepare: few }),
    form(`${name} with ecx`, [0x67, 0xe0 + n, rel8(-40)], { prepare: few }),
  ]);
}

function returns(): Form[] {
  const prepare = (test: TestCase): void => {
    stack(test);
    const to = test.random.chance(10) ? NOT_CANONICAL : destination(test);
    test.poke(Number(test.registers[RSP]), to);
  };
  return [form('ret', [0xc3], { prepare }), form('ret imm', [0xc2], { imm: 2, prepare })];
}

export const CONTROL_FORMS: readonly Form[] = [
  ...conditional(),
  ...loops(),
  ...returns(),
  ...SHORT.map((d) => form(`jmp rel8 ${d}`, [0xeb, rel8(d)])),
  ...NEAR.map((d) => form(`jmp rel32 ${d}`, [0xe9, ...rel32(d)])),
  ...NEAR.map((d) => form(`call rel32 ${d}`, [0xe8, ...rel32(d)], { prepare: stack })),
  form('jmp rm', [0xff], { modrm: 'both', digit: 4, memoryBytes: 8, align: 8, prepare: indirect }),
  form('call rm', [0xff], { modrm: 'both', digit: 2, memoryBytes: 8, align: 8, prepare: indirect }),
];
