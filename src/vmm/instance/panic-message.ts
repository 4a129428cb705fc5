/** Why the guest's kernel has panicked: the pvpanic device does not tell, the console does. */
import type { ConsoleHub } from './console-hub.ts';

/** The kernel prints it twice: at last as "---[ end Kernel panic - not syncing: … ]---". */
const PANIC = /Kernel panic - not syncing: ([^\r\n]{1,400}?)(?: \]---)?(?=[\r\n]|$)/g;
/** The line is among the last that were printed. */
export const PANIC_TAIL_BYTES = 16 * 1024;

/** Null when no console has the line: its guest may print elsewhere. */
export function panicMessage(consoles: ConsoleHub): string | null {
  for (const bytes of consoles.recent().values()) {
    const message = panicMessageIn(bytes);
    if (message !== null) return message;
  }
  return null;
}

/** The same for what one console has printed. */
export function panicMessageIn(printed: Uint8Array): string | null {
  const text = Buffer.from(printed.subarray(-PANIC_TAIL_BYTES)).toString('utf8');
  return [...text.matchAll(PANIC)].at(-1)?.[1] ?? null;
}
