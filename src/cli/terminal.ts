/** Joins a console's WebSocket to this process's terminal. */
import type { ReadStream } from 'node:tty';
import type WebSocket from 'ws';
import type { ConsoleSize } from '../contracts/api/index.ts';
import { AppError } from '../contracts/errors.ts';
import type { Io } from './io.ts';

/** Ctrl-] as in telnet and virsh: rare in what guests are used for. */
export const ESCAPE_BYTE = 0x1d;

const CLOSE_NORMAL = 1000;

type Input = NodeJS.ReadableStream & Partial<Pick<ReadStream, 'isTTY' | 'setRawMode'>>;

/** Bytes that the console sends are written as they are: interpreting them is the terminal's business. */
export interface ByteOutput {
  write(bytes: Uint8Array): unknown;
}

/**
 * Resolves when the user leaves by the escape key or the console ends in good order. Without a terminal the end
 * of the input is not the end: output goes on until the console closes.
 * `socket` is paused when it comes. @throws AppError `unreachable` when the connection breaks
 */
export async function attachTerminal(
  socket: WebSocket,
  stdin: Input,
  { stderr }: Io,
  stdout: ByteOutput = process.stdout,
): Promise<void> {
  const raw = stdin.isTTY === true && stdin.setRawMode !== undefined;
  if (raw) {
    stderr.write('Connected. Ctrl-] leaves.\r\n');
    stdin.setRawMode?.(true);
  }
  const forward = (chunk: Buffer | string): void => {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    const escapeAt = raw ? bytes.indexOf(ESCAPE_BYTE) : -1;
    if (escapeAt >= 0) socket.close(CLOSE_NORMAL);
    else socket.send(bytes);
  };
  const tellSize = (): void => {
    const { columns, rows } = process.stdout;
    if (columns > 0 && rows > 0) socket.send(JSON.stringify({ columns, rows } satisfies ConsoleSize));
  };
  if (raw && process.stdout.isTTY) {
    tellSize();
    process.stdout.on('resize', tellSize);
  }
  socket.on('message', (data: Buffer) => stdout.write(data));
  stdin.on('data', forward);
  try {
    const end = closed(socket);
    socket.resume();
    await end;
  } finally {
    stdin.off('data', forward);
    process.stdout.off('resize', tellSize);
    stdin.pause();
    if (raw) {
      stdin.setRawMode?.(false);
      stderr.write('\r\n');
    }
  }
}

function closed(socket: WebSocket): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('error', (cause) => reject(broken(cause.message, cause)));
    socket.once('close', (code, reason) => {
      if (code === CLOSE_NORMAL) resolve();
      else reject(broken(`close code ${code} ${reason.toString('utf8')}`.trimEnd()));
    });
  });
}

function broken(why: string, cause?: unknown): AppError {
  return new AppError('unreachable', `the connection to the console ended: ${why}`, { cause });
}
