/** Waits for an operation and shows how far it is, on standard error and only to a terminal. */
import type { Operation } from '../contracts/api/index.ts';
import { AppError } from '../contracts/errors.ts';
import type { Client } from './client.ts';
import { formatBytes, printable } from './format.ts';
import type { Output } from './io.ts';

const BAR_CHARS = 24;
/** How long one request waits: short where a bar is drawn, so that it moves. */
const WAIT_DRAWN_SECONDS = 0.5;
const WAIT_QUIET_SECONDS = 60;

/** `image.build  [#####-------------------]  21%  unpacking` */
export function progressLine(operation: Operation): string {
  const { progress } = operation;
  if (progress === null) return `${operation.kind}  ${operation.status}`;
  const share = progress.total > 0 ? Math.min(progress.done / progress.total, 1) : 0;
  const filled = Math.round(share * BAR_CHARS);
  const bar = `${'#'.repeat(filled)}${'-'.repeat(BAR_CHARS - filled)}`;
  const percent = `${Math.floor(share * 100)}%`.padStart(4);
  const amount =
    progress.unit === 'bytes' ? `  ${formatBytes(progress.done)} of ${formatBytes(progress.total)}` : '';
  const message = progress.message === null ? '' : `  ${printable(progress.message)}`;
  return `${operation.kind}  [${bar}] ${percent}${amount}${message}`;
}

/** Resolves with the operation when it has succeeded. @throws its error when it failed or was canceled */
export async function followOperation(
  client: Client,
  started: Operation,
  stderr: Output,
): Promise<Operation> {
  const drawn = stderr.isTTY === true;
  let operation = started;
  while (operation.status === 'pending' || operation.status === 'running') {
    if (drawn) draw(stderr, progressLine(operation));
    operation = await client.waitOperation(operation.id, drawn ? WAIT_DRAWN_SECONDS : WAIT_QUIET_SECONDS);
  }
  if (drawn) draw(stderr, '');
  return requireSuccess(operation);
}

/** @throws the operation's error */
export function requireSuccess(operation: Operation): Operation {
  if (operation.status === 'succeeded') return operation;
  const { error } = operation;
  if (error !== null) throw AppError.fromPlain(error);
  throw new AppError('canceled', `operation ${operation.id} (${operation.kind}) was ${operation.status}`);
}

/** Replaces the line of the cursor. */
function draw(stderr: Output, line: string): void {
  stderr.write(`\r\x1b[K${line.slice(0, (stderr.columns ?? 80) - 1)}`);
}
