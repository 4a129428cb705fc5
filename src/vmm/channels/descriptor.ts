/** Descriptors of this process (`fd:N`): what it was started with. */
import * as fs from 'node:fs';
import { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { isatty, ReadStream } from 'node:tty';
import { AppError } from '../../contracts/errors.ts';
import { type ChannelContext, type OpenChannel, SteadyViewer } from './channel.ts';

/** Throws AppError `invalid_input` for one that is not open. */
export function openDescriptor(fd: number, context: ChannelContext): OpenChannel {
  const stat = requireOpen(fd);
  const input = context.reads ? readerOf(fd, stat) : undefined;
  const output = context.writes ? writerOf(fd, stat) : undefined;
  const sink = {
    write: (bytes: Uint8Array, done: () => void) =>
      void (output === undefined || output.destroyed ? done() : output.write(bytes, () => done())),
  };
  const held = (isHeld: boolean): void => void (isHeld ? input?.pause() : input?.resume());
  const viewer = new SteadyViewer(sink, held, () => undefined);
  viewer.opened(context.join(viewer, false));
  const restore = input === undefined ? undefined : receive(input, viewer);
  // Its other end has gone: the line is silent from now on.
  output?.on('error', () => undefined);
  if (output !== undefined) tellSize(output, viewer);
  return {
    device: String(fd),
    close() {
      restore?.();
      viewer.close();
    },
  };
}

/** A terminal is made raw, as in UML: every key is the guest's. Returns what puts it back. */
function receive(input: Readable, viewer: SteadyViewer): () => void {
  const take = (bytes: Buffer): void => viewer.input(new Uint8Array(bytes));
  if (input instanceof ReadStream) input.setRawMode(true);
  input.on('data', take);
  input.on('error', () => undefined);
  return () => {
    input.off('data', take);
    input.pause();
    if (input instanceof ReadStream) input.setRawMode(false);
  };
}

function tellSize(output: Writable, viewer: SteadyViewer): void {
  if (output !== process.stdout || !process.stdout.isTTY) return;
  const tell = (): void => viewer.resize(process.stdout.columns, process.stdout.rows);
  process.stdout.on('resize', tell);
  tell();
}

function readerOf(fd: number, stat: fs.Stats): Readable {
  if (fd === 0) return process.stdin;
  if (isatty(fd)) return new ReadStream(fd);
  if (stat.isFIFO() || stat.isSocket()) return new Socket({ fd, readable: true, writable: false });
  return fs.createReadStream('', { fd, autoClose: false });
}

function writerOf(fd: number, stat: fs.Stats): Writable {
  if (fd === 1) return process.stdout;
  if (fd === 2) return process.stderr;
  if (stat.isFIFO() || stat.isSocket()) return new Socket({ fd, readable: false, writable: true });
  return fs.createWriteStream('', { fd, autoClose: false });
}

function requireOpen(fd: number): fs.Stats {
  try {
    return fs.fstatSync(fd);
  } catch (cause) {
    throw new AppError('invalid_input', `the descriptor ${fd} is not open`, {
      field: `fd:${fd}`,
      remedy: `open it when you start the command, as in: umlaut linux ... ${fd}<>FILE`,
      cause,
    });
  }
}
