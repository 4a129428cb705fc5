/** Decodes one instruction into micro-ops. */
import { uop } from '../uops/index.ts';
import type { CodeBytes } from './code-bytes.ts';
import {
  DeviceNotAvailable,
  FLOW,
  type Flow,
  Instruction,
  InstructionTooLong,
  UndefinedOpcode,
  ZERO,
} from './instruction.ts';
import { oneByte, table38, table3a, twoByte } from './tables.ts';
import type { UopWriter } from './uop-writer.ts';
import { shapeKeeper } from '../shapes.ts';

const VECTOR = { UD: 6, NM: 7, GP: 13 } as const;

const keepShape = shapeKeeper<Instruction>();

/**
 * Decodes the instruction at `code` and appends its micro-ops. What is no instruction becomes the micro-op that
 * raises its exception.
 * @param done instructions of the block before this one
 * @throws FetchFault when a byte of it cannot be fetched
 */
export function decodeInstruction(code: CodeBytes, out: UopWriter, mode: number, done: number): Flow {
  const i = new Instruction(code, out, mode);
  keepShape(i);
  const first = out.count;
  let flow: Flow;
  try {
    i.prefixes();
    flow = dispatch(i);
  } catch (error) {
    out.truncate(first);
    if (error instanceof UndefinedOpcode) i.emit(uop`fault`, ZERO, ZERO, VECTOR.UD);
    else if (error instanceof DeviceNotAvailable) i.emit(uop`fault`, ZERO, ZERO, VECTOR.NM);
    else if (error instanceof InstructionTooLong) i.emit(uop`fault`, ZERO, ZERO, VECTOR.GP);
    else throw error;
    flow = FLOW.END;
  }
  i.finish(done);
  return flow;
}

function dispatch(i: Instruction): Flow {
  if (i.opcode !== 0x0f) return checked(i, oneByte[i.opcode]);
  i.opcode = i.u8();
  if (i.lock && (i.opcode === 0x38 || i.opcode === 0x3a)) throw new UndefinedOpcode('LOCK');
  if (i.opcode === 0x38) {
    i.opcode = i.u8();
    return table38[i.opcode](i);
  }
  if (i.opcode === 0x3a) {
    i.opcode = i.u8();
    return table3a[i.opcode](i);
  }
  return checked(i, twoByte[i.opcode]);
}

/** Opcodes that LOCK may precede, by map; groups are narrowed by `lockable`. */
const LOCKABLE = new Set([0x86, 0x87, 0x80, 0x81, 0x83, 0xf6, 0xf7, 0xfe, 0xff]);
for (let n = 0; n < 7; n++) LOCKABLE.add(n * 8).add(n * 8 + 1);
const LOCKABLE_TWO_BYTE = new Set([0xab, 0xb3, 0xbb, 0xba, 0xb0, 0xb1, 0xc0, 0xc1, 0xc7]);

function lockable(i: Instruction, opcodes: ReadonlySet<number>): boolean {
  if (!opcodes.has(i.opcode) || i.isRegister) return false;
  const which = i.reg & 7;
  if (opcodes === LOCKABLE_TWO_BYTE) return i.opcode !== 0xba || which >= 5;
  if (i.opcode >= 0xfe) return which <= 1;
  if (i.opcode >= 0xf6) return which === 2 || which === 3;
  return i.opcode < 0x80 || i.opcode > 0x83 || which !== 7;
}

function checked(i: Instruction, handler: (i: Instruction) => Flow): Flow {
  const opcodes = handler === oneByte[i.opcode] ? LOCKABLE : LOCKABLE_TWO_BYTE;
  const flow = handler(i);
  if (i.lock && !lockable(i, opcodes)) throw new UndefinedOpcode('LOCK');
  return flow;
}
