/** x87: memory operands of all kinds, and the register forms of each of the eight escape opcodes. */
import type { Form } from './form.ts';

type Details = Omit<Form, 'name' | 'family' | 'opcode'>;
/** Condition codes that most instructions leave undefined: C0, C2 and C3. */
const C023 = 0x4500;
/** Also C1, which says something only where something was rounded or popped. */
const C0123 = 0x4700;

function memory(opcode: number, sizes: Readonly<Record<number, number>>): Form[] {
  return Object.entries(sizes).map(([digit, memoryBytes]) => {
    const compares = (opcode & 1) === 0 && (digit === '2' || digit === '3');
    return {
      name: `${opcode.toString(16)} /${digit} m${memoryBytes * 8}`,
      family: 'x87',
      opcode: [opcode],
      modrm: 'memory',
      digit: Number(digit),
      memoryBytes,
      undefinedStatus: compares ? 0 : C023,
    };
  });
}

const arithmetic = (bytes: number) => Object.fromEntries([0, 1, 2, 3, 4, 5, 6, 7].map((d) => [d, bytes]));

/** One form for each second byte of a range. */
function registers(opcode: number, first: number, last: number, details: Details = {}): Form[] {
  return Array.from({ length: last - first + 1 }, (_, i) => ({
    name: `${opcode.toString(16)} ${(first + i).toString(16)}`,
    family: 'x87',
    opcode: [opcode, first + i],
    undefinedStatus: C023,
    ...details,
  }));
}

const exact: Details = { undefinedStatus: 0 };
const transcendental: Details = {
  approximate: { bits: 61, kind: 'float80' },
  undefinedStatus: C0123,
};

export const X87_FORMS: readonly Form[] = [
  ...memory(0xd8, arithmetic(4)),
  ...memory(0xdc, arithmetic(8)),
  ...memory(0xda, arithmetic(4)),
  ...memory(0xde, arithmetic(2)),
  ...memory(0xd9, { 0: 4, 2: 4, 3: 4, 5: 2, 7: 2 }),
  ...memory(0xdb, { 0: 4, 1: 4, 2: 4, 3: 4, 5: 10, 7: 10 }),
  ...memory(0xdd, { 0: 8, 1: 8, 2: 8, 3: 8, 7: 2 }),
  ...memory(0xdf, { 0: 2, 1: 2, 2: 2, 3: 2, 4: 10, 5: 8, 6: 10, 7: 8 }),
  ...registers(0xd8, 0xc0, 0xcf),
  ...registers(0xd8, 0xd0, 0xdf, exact),
  ...registers(0xd8, 0xe0, 0xff),
  ...registers(0xd9, 0xc0, 0xd0),
  ...registers(0xd9, 0xe0, 0xe1),
  ...registers(0xd9, 0xe4, 0xe5, exact),
  ...registers(0xd9, 0xe8, 0xee),
  ...registers(0xd9, 0xf4, 0xf4),
  ...registers(0xd9, 0xf5, 0xf5, exact),
  ...registers(0xd9, 0xf6, 0xf7),
  ...registers(0xd9, 0xf8, 0xf8, exact),
  ...registers(0xd9, 0xfa, 0xfa),
  ...registers(0xd9, 0xfc, 0xfd),
  ...[0xf0, 0xf1, 0xf2, 0xf3, 0xf9, 0xfb, 0xfe, 0xff].flatMap((op) =>
    registers(0xd9, op, op, transcendental),
  ),
  ...registers(0xda, 0xc0, 0xdf),
  ...registers(0xda, 0xe9, 0xe9, exact),
  ...registers(0xdb, 0xc0, 0xdf),
  ...registers(0xdb, 0xe2, 0xe3),
  ...registers(0xdb, 0xe8, 0xf7),
  ...registers(0xdc, 0xc0, 0xcf),
  ...registers(0xdc, 0xe0, 0xff),
  ...registers(0xdd, 0xc0, 0xc7),
  ...registers(0xdd, 0xd0, 0xdf),
  ...registers(0xdd, 0xe0, 0xef, exact),
  ...registers(0xde, 0xc0, 0xcf),
  ...registers(0xde, 0xd9, 0xd9, exact),
  ...registers(0xde, 0xe0, 0xff),
  ...registers(0xdf, 0xe0, 0xe0),
  ...registers(0xdf, 0xe8, 0xf7),
];
