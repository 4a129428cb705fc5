/** What the host puts into a guest's /proc: from how it is configured to bytes. */
import { execFile } from 'node:child_process';
import * as fs from 'node:fs';
import { connect } from 'node:net';
import { AppError } from '../contracts/errors.ts';
import type { ProcFileConfig, ProcSource } from '../contracts/machine.ts';
import type { ProcContent, ProcRule } from '../inspect/index.ts';

/** Of what a guest reads of one file. */
export const PROC_CONTENT_BYTES_MAX = 4 << 20;
/** The guest's process sleeps for so long at most. */
const TIMEOUT_MS = 10_000;

export function procRule({ path, source }: ProcFileConfig): ProcRule {
  return { path, content: source.kind === 'hidden' ? undefined : contentOf(source) };
}

function contentOf(source: Exclude<ProcSource, { kind: 'hidden' }>): ProcContent {
  switch (source.kind) {
    case 'text': {
      const bytes = Buffer.from(source.text);
      return () => bytes;
    }
    case 'file':
      return () => readFile(source.path);
    case 'socket':
      return (kernels) => readSocket(source.path, source.filter === true ? kernels() : undefined);
    case 'command':
      return (kernels) => readCommand(source.command, source.filter === true ? kernels() : undefined);
  }
}

/** Not through a FIFO or the like, where a VM's thread would wait. */
function readFile(path: string): Uint8Array {
  const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  try {
    if (!fs.fstatSync(fd).isFile()) throw new AppError('invalid_input', `${path} is no regular file`);
    const bytes = Buffer.alloc(PROC_CONTENT_BYTES_MAX + 1);
    // A file of /proc or /sys says that it has no bytes.
    let length = 0;
    for (let read = 1; read > 0; length += read) {
      read = fs.readSync(fd, bytes, length, bytes.length - length, null);
    }
    if (length > PROC_CONTENT_BYTES_MAX) throw tooLong(path);
    return Uint8Array.from(bytes.subarray(0, length));
  } finally {
    fs.closeSync(fd);
  }
}

/** @param input is sent before, to its end; nothing at all when missing, as UML has it */
function readSocket(path: string, input: Uint8Array | undefined): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    if (input !== undefined) socket.end(input);
    const pieces: Buffer[] = [];
    let length = 0;
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error(`${path} does not answer`)));
    socket.on('data', (bytes: Buffer) => {
      pieces.push(bytes);
      length += bytes.length;
      if (length > PROC_CONTENT_BYTES_MAX) socket.destroy(tooLong(path));
    });
    socket.on('end', () => resolve(Buffer.concat(pieces)));
    socket.on('error', reject);
  });
}

function readCommand(
  [program = '', ...args]: readonly string[],
  input: Uint8Array | undefined,
): Promise<Uint8Array> {
  const options = { encoding: 'buffer', maxBuffer: PROC_CONTENT_BYTES_MAX, timeout: TIMEOUT_MS } as const;
  return new Promise((resolve, reject) => {
    const child = execFile(program, args, options, (error, stdout) =>
      error === null ? resolve(stdout) : reject(error),
    );
    // One that does not want it all closes its end.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}

function tooLong(path: string): AppError {
  return new AppError('invalid_input', `${path} has more than ${PROC_CONTENT_BYTES_MAX} bytes`);
}
