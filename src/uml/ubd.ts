/** UML's block devices: `ubd<unit><flags>=<file>[<sep><backing>[<sep><serial>]]` (arch/um/drivers/ubd_kern.c). */
import { wrong } from './wrong.ts';

export const UBD_MAX = 16;

export interface Ubd {
  /** The COW file when there is a backing file, else the disk (or a COW file that names its own backing file). */
  readonly file: string;
  readonly backing: string | undefined;
  readonly serial: string | undefined;
  readonly readOnly: boolean;
  /** Not to be taken for a COW file. */
  readonly plain: boolean;
  /** Flag s: every write is durable before it is done. */
  readonly synchronous: boolean;
  /** Flag t. */
  readonly noDiscard: boolean;
  /** Flag c: the file is not locked. */
  readonly unlocked: boolean;
}

const FLAGS_MAX = 6;

/** A number or a letter. */
export function ubdUnit(text: string): number {
  return /^[a-p]$/.test(text) ? text.charCodeAt(0) - 'a'.charCodeAt(0) : Number(text);
}

/** `name`: what is between `ubd` and the `=`. Throws AppError `invalid_input`, in UML's words. */
export function parseUbd(word: string, name: string, value: string): { unit: number; ubd: Ubd } {
  const parsed = /^(0x[0-9a-f]{1,4}|\d{1,4}|[a-p])(.*)$/s.exec(name);
  if (parsed === null)
    throw wrong(word, 'has no device number', `use ubd0 to ubd${UBD_MAX - 1}, or ubda to ubdp`);
  const unit = ubdUnit(parsed[1]!);
  const flags = parsed[2]!;
  if (unit >= UBD_MAX) throw wrong(word, 'has a device number out of range', `use ubd0 to ubd${UBD_MAX - 1}`);
  if (flags.length > FLAGS_MAX) throw wrong(word, 'has too many flags', 'use r, s, c, t or d');
  if (!/^[rsctd]*$/.test(flags))
    throw wrong(word, "expected '=' or flag letter (r, s, c, t or d)", 'check its flags');
  const [file = '', backing = '', serial = ''] = value.split(/[,:]/, 3);
  if (file === '') throw wrong(word, 'names no file', 'write ubd0=FILE or ubd0=COW,BACKING');
  const plain = flags.includes('d');
  if (plain && backing !== '')
    throw wrong(word, "can't specify both 'd' and a cow file", 'leave one of them out');
  const ubd = {
    file,
    backing: backing === '' ? undefined : backing,
    serial: serial === '' ? undefined : serial,
    plain,
    ...ubdFlags(flags),
  };
  return { unit, ubd };
}

/** What letters between unit and `=` say, but for d. */
export function ubdFlags(flags: string): Pick<Ubd, 'readOnly' | 'synchronous' | 'noDiscard' | 'unlocked'> {
  return {
    readOnly: flags.includes('r'),
    synchronous: flags.includes('s'),
    noDiscard: flags.includes('t'),
    unlocked: flags.includes('c'),
  };
}
