/** Recordings of a terminal in the format of asciinema (asciicast v2): a header, then an event a line. */
import { DIRECTION, OPERATION, type TtyRecord, ttyName, ttySize } from './tty-log.ts';

/** Of a terminal that nobody has told its size. */
const COLUMNS = 80;
const ROWS = 24;

/** The lines of a recording of one terminal of a log. Without records there are none. */
export function* asciicast(records: Iterable<TtyRecord>, console: string): Generator<string> {
  let start: number | undefined;
  let size = { columns: COLUMNS, rows: ROWS };
  // Characters of several bytes may come in pieces.
  const decoders = new Map<number, TextDecoder>();
  for (const record of records) {
    const { operation, tty, direction, time, data } = record;
    if (ttyName(tty) !== console) continue;
    const resized = ttySize(record);
    size = resized ?? size;
    if (start === undefined && operation === OPERATION.WRITE) {
      start = time;
      const timestamp = Math.floor(time / 1000);
      const header = { version: 2, width: size.columns, height: size.rows, timestamp, title: console };
      yield `${JSON.stringify(header)}\n`;
    }
    if (start === undefined) continue;
    const seconds = Math.max(0, Math.round((time - start) * 1000) / 1e6);
    if (resized !== undefined) yield event(seconds, 'r', `${size.columns}x${size.rows}`);
    if (operation !== OPERATION.WRITE) continue;
    const decoder = decoders.get(direction) ?? new TextDecoder();
    decoders.set(direction, decoder);
    const text = decoder.decode(data, { stream: true });
    if (text !== '') yield event(seconds, direction === DIRECTION.READ ? 'i' : 'o', text);
  }
}

function event(seconds: number, kind: CastEvent['kind'] | 'r', text: string): string {
  return `${JSON.stringify([seconds, kind, text])}\n`;
}

/** What a recording has of what was shown and typed. */
export interface CastEvent {
  /** Seconds from the beginning. */
  readonly at: number;
  readonly kind: 'i' | 'o';
  readonly text: string;
}

/** Throws RangeError for what is no recording. Lines that are no events are passed over. */
export function castEvents(text: string): CastEvent[] {
  const [first = '', ...lines] = text.split('\n');
  const header = parsed(first);
  if (typeof header !== 'object' || header === null || !('version' in header) || header.version !== 2) {
    throw new RangeError('this is no asciicast of version 2');
  }
  return lines.flatMap((line) => {
    const event = parsed(line);
    if (!Array.isArray(event)) return [];
    const [at, kind, data] = event as unknown[];
    if (typeof at !== 'number' || typeof data !== 'string' || (kind !== 'o' && kind !== 'i')) return [];
    return [{ at, kind, text: data }];
  });
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined; // an end that is cut off, or no JSON at all
  }
}
