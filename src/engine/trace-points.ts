/** Instructions whose execution is told of: kept in the memory that decoder and compiler share. */
import { CPU, STATE, TRACE_POINTS_MAX } from './layout.ts';

/** By their RAM offsets. Throws RangeError for too many. Blocks that were decoded before do not know of them. */
export function setTracePoints(view: DataView, ramOffsets: readonly number[]): void {
  if (ramOffsets.length > TRACE_POINTS_MAX) throw new RangeError(`${ramOffsets.length} trace points`);
  for (const [number, ramOffset] of ramOffsets.entries()) {
    view.setUint32(CPU + STATE.TRACE_POINTS + number * 4, ramOffset, true);
  }
  view.setUint32(CPU + STATE.TRACE_COUNT, ramOffsets.length, true);
}

/** Has the 4 KiB page at a RAM offset any? */
export function hasTracePoints(view: DataView, page: number): boolean {
  const count = view.getUint32(CPU + STATE.TRACE_COUNT, true);
  for (let number = 0; number < count; number++) {
    if (view.getUint32(CPU + STATE.TRACE_POINTS + number * 4, true) >>> 12 === page >>> 12) return true;
  }
  return false;
}

/** Are there any in `bytes` from a RAM offset on? */
export function isTraced(view: DataView, ramOffset: number, bytes: number): boolean {
  const count = view.getUint32(CPU + STATE.TRACE_COUNT, true);
  for (let number = 0; number < count; number++) {
    const at = view.getUint32(CPU + STATE.TRACE_POINTS + number * 4, true);
    if (at >= ramOffset && at < ramOffset + bytes) return true;
  }
  return false;
}

/** The number of the trace point at a RAM offset, -1 if there is none. */
export function tracePointAt(view: DataView, ramOffset: number): number {
  const count = view.getUint32(CPU + STATE.TRACE_COUNT, true);
  for (let number = 0; number < count; number++) {
    if (view.getUint32(CPU + STATE.TRACE_POINTS + number * 4, true) === ramOffset) return number;
  }
  return -1;
}
