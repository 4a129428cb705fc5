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

/** The number of the first trace point at RAM offsets from `start` on, before `end`; -1 if there is none. */
function firstBetween(view: DataView, start: number, end: number): number {
  const count = view.getUint32(CPU + STATE.TRACE_COUNT, true);
  for (let number = 0; number < count; number++) {
    const at = view.getUint32(CPU + STATE.TRACE_POINTS + number * 4, true);
    if (at >= start && at < end) return number;
  }
  return -1;
}

/** Has the 4 KiB page at a RAM offset any? */
export function hasTracePoints(view: DataView, page: number): boolean {
  const start = page - (page & 4095);
  return firstBetween(view, start, start + 4096) >= 0;
}

/** Are there any in `bytes` from a RAM offset on? */
export function isTraced(view: DataView, ramOffset: number, bytes: number): boolean {
  return firstBetween(view, ramOffset, ramOffset + bytes) >= 0;
}

/** The number of the trace point at a RAM offset, -1 if there is none. */
export function tracePointAt(view: DataView, ramOffset: number): number {
  return firstBetween(view, ramOffset, ramOffset + 1);
}
