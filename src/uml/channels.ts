/** What UML's consoles and serial lines can be attached to (arch/um/drivers/chan_kern.c), as far as it is to be had here. */
import { wrong } from './wrong.ts';

export type Channel =
  /** A descriptor of this process. */
  | { readonly kind: 'fd'; readonly fd: number }
  /** Reads nothing, and writes vanish. */
  | { readonly kind: 'null' };

/** A line's ends; undefined when it is disabled (`none`). */
export interface Line {
  readonly input: Channel;
  readonly output: Channel;
  /** As it was written. */
  readonly text: string;
}

/** `INPUT,OUTPUT`, or one for both. Throws AppError `invalid_input`. */
export function parseChannels(word: string, text: string): Line {
  const comma = text.indexOf(',');
  const input = parseChannel(word, comma < 0 ? text : text.slice(0, comma));
  const output = comma < 0 ? input : parseChannel(word, text.slice(comma + 1));
  return { input, output, text };
}

function parseChannel(word: string, text: string): Channel {
  // As UML, words behind the name that a channel has no use for are ignored.
  if (text.startsWith('null')) return { kind: 'null' };
  const fd = /^(?:fd:)?(\d{1,4})$/.exec(text);
  if (fd !== null) return { kind: 'fd', fd: Number(fd[1]) };
  const known = /^(port|pts|pty|tty|xterm)\b/.exec(text)?.[1];
  const what =
    known === undefined ? 'has no channel of UML' : `has the channel ${known}, which is not to be had here`;
  throw wrong(word, what, 'use fd:N, null or none, or two of them by a comma');
}
