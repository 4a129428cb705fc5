/** Files to and from the daemon. */
import { once } from 'node:events';
import * as fs from 'node:fs';
import { Writable } from 'node:stream';
import { AppError, systemErrorCode, toAppError } from '../contracts/errors.ts';
import { formatBytes, printableLines } from './format.ts';
import type { Output } from './io.ts';

const DRAW_MS = 200;
/** Zeros of this length and place are left out: holes. */
const UNIT_BYTES = 4096;
const ZEROS = Buffer.alloc(UNIT_BYTES);

/**
 * Writes an answer's body to the new file `to`, sparse, which appears whole or not at all. AppErrors: `already_exists`,
 * `not_found` for its folder, `disk_full`, `unreachable` when the daemon ends meanwhile.
 */
export async function saveResponse(response: Response, to: string, stderr: Output): Promise<number> {
  const draft = `${to}.partial`;
  if (fs.existsSync(to)) {
    throw new AppError('already_exists', `${to} exists`, { field: 'file', remedy: 'choose another name' });
  }
  const total = Number(response.headers.get('content-length'));
  const fd = openDraft(draft);
  try {
    const written = await writeSparse(response, fd, total, stderr);
    if (written !== total) throw cutOff();
    fs.ftruncateSync(fd, total);
    fs.fsyncSync(fd);
    fs.renameSync(draft, to);
    return total;
  } catch (error) {
    fs.rmSync(draft, { force: true });
    throw systemErrorCode(error)?.startsWith('E') ? toAppError(error) : error;
  } finally {
    fs.closeSync(fd);
  }
}

/** Writes an answer's body to `output` as it comes; on a terminal nothing in it steers that. */
export async function copyResponse(response: Response, output: Output): Promise<void> {
  const total = Number(response.headers.get('content-length'));
  const text = new TextDecoder();
  let written = 0;
  try {
    for await (const chunk of response.body ?? []) {
      const shown =
        output.isTTY === true ? printableLines(text.decode(chunk, { stream: true })) : new Uint8Array(chunk);
      written += chunk.length;
      if (output.write(shown) === false && output instanceof Writable) await once(output, 'drain');
    }
  } catch (cause) {
    if (systemErrorCode(cause)?.startsWith('E')) throw cause;
    throw cutOff(cause);
  }
  if (written !== total) throw cutOff();
}

function openDraft(draft: string): number {
  try {
    return fs.openSync(draft, 'w', 0o600);
  } catch (error) {
    throw toAppError(error);
  }
}

async function writeSparse(response: Response, fd: number, total: number, stderr: Output): Promise<number> {
  const draw = progressOn(stderr, total);
  let at = 0;
  let rest = Buffer.alloc(0);
  const flush = (bytes: Buffer): void => {
    for (let from = 0; from < bytes.length; from += UNIT_BYTES) {
      const unit = bytes.subarray(from, from + UNIT_BYTES);
      if (ZEROS.compare(unit, 0, unit.length, 0, unit.length) !== 0) {
        fs.writeSync(fd, unit, 0, unit.length, at + from);
      }
    }
    at += bytes.length;
    draw(at);
  };
  try {
    for await (const chunk of response.body ?? []) {
      rest = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk]);
      const whole = rest.length - (rest.length % UNIT_BYTES);
      flush(rest.subarray(0, whole));
      rest = rest.subarray(whole);
    }
  } catch (cause) {
    if (systemErrorCode(cause)?.startsWith('E')) throw cause;
    throw cutOff(cause);
  }
  flush(rest);
  draw(undefined);
  return at;
}

function cutOff(cause?: unknown): AppError {
  return new AppError('unreachable', 'the daemon ended the download too early', {
    remedy: 'try again',
    cause,
  });
}

/** A line that is drawn over itself, on a terminal; undefined ends it. */
function progressOn(stderr: Output, total: number): (done: number | undefined) => void {
  let drawnAt = 0;
  return (done) => {
    if (stderr.isTTY !== true) return;
    if (done === undefined) {
      stderr.write('\r\x1b[K');
      return;
    }
    if (performance.now() - drawnAt < DRAW_MS) return;
    drawnAt = performance.now();
    stderr.write(`\r\x1b[K${formatBytes(done)} of ${formatBytes(total)}`);
  };
}
