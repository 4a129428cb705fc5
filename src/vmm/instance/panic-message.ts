/** Why the guest's kernel has panicked: the pvpanic device does not tell, the console does. */
import type { ConsoleHub } from './console-hub.ts';

const PANIC = /Kernel panic - not syncing: ([^\r\n]{1,400})/g;
/** The line is among the last that were printed. */
const TAIL_BYTES = 16 * 1024;

/** Null when no console has the line: its guest may print elsewhere. */
export function panicMessage(consoles: ConsoleHub): string | null {
  for (const bytes of consoles.recent().values()) {
    const text = Buffer.from(bytes.subarray(-TAIL_BYTES)).toString('utf8');
    const last = [...text.matchAll(PANIC)].at(-1);
    if (last?.[1] !== undefined) return last[1];
  }
  return null;
}
