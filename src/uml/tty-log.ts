/**
 * UML's log of terminals (tty_log_fd, arch/um/os-Linux/tty_log.c of Linux 2.6): records of a header and data, little-endian.
 * Written is the 24-byte header of 32-bit kernels, the only one that UML's own readers (playlog.pl) know; read is the 40-byte
 * header of 64-bit kernels too.
 */

/** SIZE is ours: columns and rows of the terminal from then on (u16 each). UML's readers pass over operations that they do not know. */
export const OPERATION = { OPEN: 1, CLOSE: 2, WRITE: 3, EXEC: 4, SIZE: 5 } as const;
/** Of a write: typed by the user, or shown. */
export const DIRECTION = { READ: 1, WRITE: 2 } as const;

export interface TtyRecord {
  readonly operation: number;
  /** Which terminal: a number that is its own. */
  readonly tty: number;
  readonly direction: number;
  /** Unix milliseconds, with fractions. */
  readonly time: number;
  readonly data: Uint8Array;
}

/** Where the fields of a header are. */
interface Layout {
  readonly bytes: number;
  readonly tty: number;
  readonly length: number;
  readonly direction: number;
  readonly seconds: number;
  readonly microseconds: number;
}
const NARROW: Layout = { bytes: 24, tty: 4, length: 8, direction: 12, seconds: 16, microseconds: 20 };
const WIDE: Layout = { bytes: 40, tty: 8, length: 16, direction: 20, seconds: 24, microseconds: 32 };
const DATA_BYTES_MAX = 1 << 24;

/** Numbers of consoles: those of hvc0 and ttyS0, and all that follow. */
const NUMBERS = { hvc: 0x100, ttyS: 0x200 } as const;

export function ttyNumber(console: string): number {
  const [, driver, unit] = /^(hvc|ttyS)(\d+)$/.exec(console) ?? [];
  return driver === undefined ? 0 : NUMBERS[driver as keyof typeof NUMBERS] + Number(unit);
}

/** The console that has a number; a name made of the number where it is another's. */
export function ttyName(number: number): string {
  for (const [driver, first] of Object.entries(NUMBERS)) {
    if (number >= first && number < first + 0x100) return `${driver}${number - first}`;
  }
  return `tty-${number.toString(16)}`;
}

export function encodeTtyRecord({ operation, tty, direction, time, data }: TtyRecord): Uint8Array {
  const bytes = new Uint8Array(NARROW.bytes + data.length);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, operation, true);
  view.setUint32(NARROW.tty, tty, true);
  view.setInt32(NARROW.length, data.length, true);
  view.setInt32(NARROW.direction, direction, true);
  view.setUint32(NARROW.seconds, Math.floor(time / 1000), true);
  view.setUint32(NARROW.microseconds, Math.floor((time % 1000) * 1000), true);
  bytes.set(data, NARROW.bytes);
  return bytes;
}

/** A first record whose fields make sense in a layout. */
function fits(view: DataView, { bytes, length, direction, microseconds }: Layout): boolean {
  if (view.byteLength < bytes) return false;
  const [operation, data] = [view.getInt32(0, true), view.getInt32(length, true)];
  if (operation < OPERATION.OPEN || operation > OPERATION.EXEC || data < 0 || data > DATA_BYTES_MAX)
    return false;
  const to = view.getInt32(direction, true);
  const isWrite = operation === OPERATION.WRITE;
  return (
    (isWrite ? to === DIRECTION.READ || to === DIRECTION.WRITE : to === 0) &&
    view.getUint32(microseconds, true) < 1e6
  );
}

/** The records of a log; ends at what is cut short, as the end of a log that is being written. Throws RangeError for another file. */
export function* ttyRecords(log: Uint8Array): Generator<TtyRecord> {
  const view = new DataView(log.buffer, log.byteOffset, log.byteLength);
  if (log.length === 0) return;
  const layout = [NARROW, WIDE].find((candidate) => fits(view, candidate));
  if (layout === undefined) throw new RangeError('this is no log of terminals');
  for (let at = 0; at + layout.bytes <= log.length; ) {
    const length = view.getInt32(at + layout.length, true);
    const end = at + layout.bytes + length;
    if (length < 0 || end > log.length) return;
    yield {
      operation: view.getInt32(at, true),
      tty: view.getUint32(at + layout.tty, true),
      direction: view.getInt32(at + layout.direction, true),
      time:
        view.getUint32(at + layout.seconds, true) * 1000 +
        view.getUint32(at + layout.microseconds, true) / 1000,
      data: log.subarray(at + layout.bytes, end),
    };
    at = end;
  }
}

/** Columns and rows of a record of a SIZE; undefined for others. */
export function ttySize({ operation, data }: TtyRecord): { columns: number; rows: number } | undefined {
  if (operation !== OPERATION.SIZE || data.length < 4) return undefined;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return { columns: view.getUint16(0, true), rows: view.getUint16(2, true) };
}

/** Writes a log: the records of several terminals, in the order in which things happen. */
export class TtyLogger {
  readonly #write: (record: Uint8Array) => void;
  readonly #open = new Set<string>();
  /** Of terminals that were told one. */
  readonly #sizes = new Map<string, Uint8Array>();

  constructor(write: (record: Uint8Array) => void) {
    this.#write = write;
  }

  /** `direction`: shown by the guest, or typed by a user. */
  bytes(console: string, direction: 'shown' | 'typed', bytes: Uint8Array): void {
    if (!this.#open.has(console)) {
      this.#open.add(console);
      // The terminal of whoever opened it, of which there is none.
      this.#record(console, OPERATION.OPEN, 0, new Uint8Array(4));
      const size = this.#sizes.get(console);
      if (size !== undefined) this.#record(console, OPERATION.SIZE, 0, size);
    }
    this.#record(console, OPERATION.WRITE, direction === 'typed' ? DIRECTION.READ : DIRECTION.WRITE, bytes);
  }

  resized(console: string, columns: number, rows: number): void {
    const size = Buffer.alloc(4);
    size.writeUInt16LE(columns, 0);
    size.writeUInt16LE(rows, 2);
    this.#sizes.set(console, size);
    if (this.#open.has(console)) this.#record(console, OPERATION.SIZE, 0, size);
  }

  /** Closes all terminals. */
  end(): void {
    for (const console of this.#open) this.#record(console, OPERATION.CLOSE, 0, new Uint8Array(0));
    this.#open.clear();
  }

  #record(console: string, operation: number, direction: number, data: Uint8Array): void {
    this.#write(encodeTtyRecord({ operation, tty: ttyNumber(console), direction, time: Date.now(), data }));
  }
}
