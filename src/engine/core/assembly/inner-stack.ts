// Checks of a stack segment taken from a TSS or a far return's stack.
import { attributes, descriptorBase, fetchDescriptor, isNull, privilege } from './descriptors';
import { stackMask } from './stack';
import { ATTR_CODE, ATTR_PRESENT, ATTR_RW, ATTR_S, DONE, FAULT, VECTOR_SS, fault } from './state';

/**
 * Reads and checks a stack segment for privilege `level`; it stays the last descriptor read. Code 0 or 2 with
 * `vector` (#SS if not present) pending.
 */
export function checkInnerStack(sel: u32, level: u32, vector: i32, external: u32): i32 {
  const error = (sel & 0xfffc) | external;
  if (isNull(sel)) return fault(vector, external);
  if (fetchDescriptor(sel, 8, vector, external)) return FAULT;
  const attr = attributes();
  const writableData = (attr & (ATTR_S | ATTR_CODE | ATTR_RW)) == (ATTR_S | ATTR_RW);
  if ((sel & 3) != level || !writableData || privilege(attr) != level) return fault(vector, error);
  if ((attr & ATTR_PRESENT) == 0) return fault(VECTOR_SS, error);
  return DONE;
}

export function innerStackMask(): i64 {
  return stackMask(attributes());
}

export function innerStackBase(): i64 {
  return descriptorBase();
}
