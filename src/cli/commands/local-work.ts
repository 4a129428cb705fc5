/** Commands that work on files of this host, without a daemon: their output and their way of being cut off. */
import type { Command } from 'commander';
import type { GlobalOptions } from '../context.ts';
import { formatBytes } from '../format.ts';
import type { Io } from '../io.ts';

export interface LocalWork {
  /** Draws a line on a terminal, a few times a second. */
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
  /** Ctrl-C and SIGTERM; a second one ends the process at once. */
  readonly signal: AbortSignal;
}

const DRAW_MS = 200;

/** Does `work`, and prints its result as JSON or as `human` says it. */
export async function runLocally<T>(
  command: Command,
  io: Io,
  work: (local: LocalWork) => T | Promise<T>,
  human: (result: T) => string,
): Promise<void> {
  const stop = new AbortController();
  const abort = (): void => stop.abort();
  process.once('SIGINT', abort).once('SIGTERM', abort);
  const terminal = io.stderr.isTTY === true;
  let drawnAt = 0;
  const onProgress = (doneBytes: number, totalBytes: number): void => {
    if (!terminal || performance.now() - drawnAt < DRAW_MS) return;
    drawnAt = performance.now();
    const percent = totalBytes === 0 ? 100 : Math.floor((doneBytes / totalBytes) * 100);
    io.stderr.write(`\r\x1b[K${percent}%  ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`);
  };
  try {
    const result = await work({ onProgress, signal: stop.signal });
    if (drawnAt > 0) io.stderr.write('\r\x1b[K');
    const json = command.optsWithGlobals<GlobalOptions>().json === true;
    io.stdout.write(json ? `${JSON.stringify(result, null, 2)}\n` : human(result));
  } finally {
    process.off('SIGINT', abort).off('SIGTERM', abort);
  }
}
