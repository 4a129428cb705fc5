/** Opcode tables: a handler for each opcode; families fill them in (`index.ts`). */
import { FLOW, type Flow, type Instruction, UndefinedOpcode } from './instruction.ts';

export type Handler = (i: Instruction) => Flow;

export const undefinedOpcode: Handler = () => {
  throw new UndefinedOpcode('undefined');
};

export const oneByte: Handler[] = new Array<Handler>(256).fill(undefinedOpcode);
/** After 0F. */
export const twoByte: Handler[] = new Array<Handler>(256).fill(undefinedOpcode);
/** After 0F 38. */
export const table38: Handler[] = new Array<Handler>(256).fill(undefinedOpcode);
/** After 0F 3A. */
export const table3a: Handler[] = new Array<Handler>(256).fill(undefinedOpcode);

/** Wraps a handler that always goes on. */
export const simple =
  (handle: (i: Instruction) => void): Handler =>
  (i) => {
    handle(i);
    return FLOW.NEXT;
  };

/** The same, with ModRM read first. */
export const withModrm =
  (handle: (i: Instruction) => void): Handler =>
  (i) => {
    i.readModrm();
    handle(i);
    return FLOW.NEXT;
  };

/** For instructions that do not exist in 64-bit mode. */
export const notLong =
  (handler: Handler): Handler =>
  (i) => {
    if (i.long) throw new UndefinedOpcode('not in 64-bit mode');
    return handler(i);
  };

/** Width of an operand by the opcode's low bit: 8, or the operand size. */
export const widthOf = (i: Instruction): number => (i.opcode & 1 ? i.operandSize : 8);
