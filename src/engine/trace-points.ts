/** Instructions whose execution is told of: kept in the memory that decoder and compiler share. */
import { CPU, STATE, TRACE_POINTS_MAX } from './layout.ts';

/** Numbers of trace points by their RAM offsets. */
export type TracePoints = ReadonlyMap<number, number>;

/** By their RAM offsets. Throws RangeError for too many. Blocks that were decoded before do not know of them. */
export function setTracePoints(view: DataView, ramOffsets: readonly number[]): void {
  if (ramOffsets.length > TRACE_POINTS_MAX) throw new RangeError(`${ramOffsets.length} trace points`);
  for (const [number, ramOffset] of ramOffsets.entries()) {
    view.setUint32(CPU + STATE.TRACE_POINTS + number * 4, ramOffset, true);
  }
  view.setUint32(CPU + STATE.TRACE_COUNT, ramOffsets.length, true);
}

/** Those in `bytes` from a RAM offset on. Of two at one place the first is meant. */
export function tracePointsIn(view: DataView, ramOffset: number, bytes: number): TracePoints {
  const points = new Map<number, number>();
  const count = view.getUint32(CPU + STATE.TRACE_COUNT, true);
  for (let number = 0; number < count; number++) {
    const at = view.getUint32(CPU + STATE.TRACE_POINTS + number * 4, true);
    if (at >= ramOffset && at < ramOffset + bytes && !points.has(at)) points.set(at, number);
  }
  return points;
}

/** Has the 4 KiB page at a RAM offset any? */
export function hasTracePoints(view: DataView, page: number): boolean {
  return tracePointsIn(view, page - (page & 4095), 4096).size > 0;
}

/** The number of the trace point at a RAM offset, -1 if there is none. */
export function tracePointAt(view: DataView, ramOffset: number): number {
  return tracePointsIn(view, ramOffset, 1).get(ramOffset) ?? -1;
}
