/** What UML's consoles and serial lines can be attached to (arch/um/drivers/chan_kern.c), as it is written. */
import type { AppError } from '../contracts/errors.ts';
import { wrong } from './wrong.ts';

export type Channel =
  /** A descriptor of this process. */
  | { readonly kind: 'fd'; readonly fd: number }
  /** Reads nothing, and writes vanish. */
  | { readonly kind: 'null' }
  /** A pseudo-terminal that is made for it. UML's `pty` is one of the BSD kind, which hosts have no more: it is made the same way. */
  | { readonly kind: 'pts' | 'pty' }
  /** A terminal device of the host. */
  | { readonly kind: 'tty'; readonly path: string }
  /** A terminal program on the host's X display. */
  | { readonly kind: 'xterm' }
  /** Telnet clients. Lines may share a port. UML listens on all addresses; here it is the host itself unless an address is given. */
  | { readonly kind: 'port'; readonly address: string; readonly port: number };

/** A line's ends; undefined when it is disabled (`none`). */
export interface Line {
  readonly input: Channel;
  readonly output: Channel;
  /** As it was written. */
  readonly text: string;
}

export const LOOPBACK = '127.0.0.1';

/** `INPUT,OUTPUT`, or one for both; undefined for `none`. Throws AppError `invalid_input`. */
export function parseLine(word: string, text: string): Line | undefined {
  return text === 'none' ? undefined : parseChannels(word, text);
}

function parseChannels(word: string, text: string): Line {
  const comma = text.indexOf(',');
  const input = parseChannel(word, comma < 0 ? text : text.slice(0, comma));
  const output = comma < 0 ? input : parseChannel(word, text.slice(comma + 1));
  return { input, output, text };
}

function parseChannel(word: string, text: string): Channel {
  // As UML, words behind the name that a channel has no use for are ignored.
  if (text.startsWith('null')) return { kind: 'null' };
  if (text.startsWith('xterm')) return { kind: 'xterm' };
  if (text.startsWith('pts')) return { kind: 'pts' };
  if (text.startsWith('pty')) return { kind: 'pty' };
  if (text.startsWith('tty:')) return terminal(word, text.slice('tty:'.length));
  if (text.startsWith('port:')) return listener(word, text.slice('port:'.length));
  const fd = /^(?:fd:)?(\d{1,4})$/.exec(text);
  if (fd !== null) return { kind: 'fd', fd: Number(fd[1]) };
  throw noChannel(word);
}

function terminal(word: string, path: string): Channel {
  if (!path.startsWith('/') || path.includes('\0')) {
    throw wrong(word, 'names no terminal device', 'write tty:/dev/ttyUSB0');
  }
  return { kind: 'tty', path };
}

/** `9000`, or `ADDRESS:9000`. */
function listener(word: string, text: string): Channel {
  const parsed = /^(?:(.{1,255}):)?(\d{1,5})$/.exec(text);
  const port = Number(parsed?.[2]);
  if (parsed === null || port > 0xffff) {
    throw wrong(word, 'names no port', 'write port:9000, or port:0.0.0.0:9000 for all addresses of the host');
  }
  return { kind: 'port', address: parsed[1] ?? LOOPBACK, port };
}

function noChannel(word: string): AppError {
  return wrong(
    word,
    'has no channel of UML',
    'use pts, pty, tty:DEVICE, xterm, port:N, fd:N, null or none, or two of them by a comma',
  );
}
