/** x87: memory operands of all kinds, and the register forms of each of the eight escape opcodes. */
import type { Form } from './form.ts';
import type { TestCase } from './test-case.ts';

type Details = Omit<Form, 'name' | 'family' | 'opcode'>;
/** Condition codes that most instructions leave undefined: C0, C2 and C3. */
const C023 = 0x4500;
/** Also C1, which says something only where something was rounded or popped. */
const C0123 = 0x4700;
/** Offset of ST0 in the FXSAVE image. */
const ST0 = 32;

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
/** Where C1 says nothing but that there was no underflow of the stack, processors differ in whether they clear it. */
const conditionsUndefined: Details = { undefinedStatus: C0123 };
const remainder: Details = { undefinedStatus: 0, undefinedWithoutResult: C0123 };

/** Puts a number with an exponent from `low` to `high` (powers of two) into ST0, or leaves it as it is. */
const inRange =
  (low: number, high: number) =>
  ({ random, fx }: TestCase): void => {
    const exponent = 16383 + low + random.below(high - low + 1);
    fx.setBigUint64(ST0, random.u64() | (1n << 63n), true);
    fx.setUint16(ST0 + 8, exponent | (random.below(2) << 15), true);
  };

/** Functions that are computed by approximation, with the arguments for which they are defined. */
function transcendental(): Form[] {
  const list: [number, ReturnType<typeof inRange> | undefined][] = [
    [0xf0, inRange(-60, -1)],
    [0xf1, undefined],
    [0xf2, inRange(-60, 5)],
    [0xf3, undefined],
    [0xf9, inRange(-60, -3)],
    [0xfb, inRange(-60, 5)],
    [0xfe, inRange(-60, 5)],
    [0xff, inRange(-60, 5)],
  ];
  return list.flatMap(([op, prepare]) =>
    registers(0xd9, op, op, {
      approximate: { bits: 50, kind: 'float80' },
      undefinedStatus: C0123,
      ...(prepare === undefined ? {} : { prepare }),
    }),
  );
}

export const X87_FORMS: readonly Form[] = [
  { name: 'fwait', family: 'x87', opcode: [0x9b], undefinedStatus: 0 },
  ...memory(0xd8, arithmetic(4)),
  ...memory(0xdc, arithmetic(8)),
  ...memory(0xda, arithmetic(4)),
  ...memory(0xde, arithmetic(2)),
  ...memory(0xd9, { 0: 4, 2: 4, 3: 4, 5: 2, 7: 2 }),
  ...memory(0xd9, { 4: 28, 6: 28 }),
  ...memory(0xdd, { 4: 108, 6: 108 }),
  ...memory(0xdb, { 0: 4, 1: 4, 2: 4, 3: 4, 5: 10, 7: 10 }),
  ...memory(0xdd, { 0: 8, 1: 8, 2: 8, 3: 8, 7: 2 }),
  ...memory(0xdf, { 0: 2, 1: 2, 2: 2, 3: 2, 4: 10, 5: 8, 6: 10, 7: 8 }),
  ...registers(0xd8, 0xc0, 0xcf),
  ...registers(0xd8, 0xd0, 0xdf, exact),
  ...registers(0xd8, 0xe0, 0xff),
  ...registers(0xd9, 0xc0, 0xc7, conditionsUndefined),
  ...registers(0xd9, 0xc8, 0xd0),
  ...registers(0xd9, 0xe0, 0xe1),
  ...registers(0xd9, 0xe4, 0xe5, exact),
  ...registers(0xd9, 0xe8, 0xee),
  ...registers(0xd9, 0xf4, 0xf4),
  ...registers(0xd9, 0xf5, 0xf5, remainder),
  ...registers(0xd9, 0xf6, 0xf7),
  ...registers(0xd9, 0xf8, 0xf8, remainder),
  ...registers(0xd9, 0xfa, 0xfa),
  ...registers(0xd9, 0xfc, 0xfd),
  ...transcendental(),
  ...registers(0xda, 0xc0, 0xdf, conditionsUndefined),
  ...registers(0xda, 0xe9, 0xe9, exact),
  ...registers(0xdb, 0xc0, 0xdf, conditionsUndefined),
  ...registers(0xdb, 0xe2, 0xe3),
  ...registers(0xdb, 0xe8, 0xf7, conditionsUndefined),
  ...registers(0xdc, 0xc0, 0xcf),
  ...registers(0xdc, 0xe0, 0xff),
  ...registers(0xdd, 0xc0, 0xc7, conditionsUndefined),
  ...registers(0xdd, 0xd0, 0xdf),
  ...registers(0xdd, 0xe0, 0xef, exact),
  ...registers(0xde, 0xc0, 0xcf),
  ...registers(0xde, 0xd9, 0xd9, exact),
  ...registers(0xde, 0xe0, 0xff),
  ...registers(0xdf, 0xe0, 0xe0),
  ...registers(0xdf, 0xe8, 0xf7, conditionsUndefined),
];
