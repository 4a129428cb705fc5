/** Makes records of what trace points have put down (`capture.ts`). */
import type { TraceKind, TraceRecord } from '../../contracts/ports.ts';
import { SEEN } from './capture.ts';
import { socketAddress } from './socket-address.ts';

export const COMM_BYTES = 16;
export const ARGUMENTS_MAX = 256;
/** Calls that have not returned, of one kind; those of tasks that hang longest are told without their result. */
const PENDING_MAX = 4096;

type Draft = { -readonly [Key in keyof TraceRecord]: TraceRecord[Key] };

/** Of one kernel, from its boot to its end. */
export class TraceDecoder {
  readonly #onRecord: (record: TraceRecord) => void;
  readonly #opens: Pending;
  readonly #connects: Pending;
  /** By their struct file, until they have a descriptor. */
  readonly #opened: Pending;

  constructor(onRecord: (record: TraceRecord) => void) {
    this.#onRecord = onRecord;
    this.#opens = new Pending(onRecord);
    this.#connects = new Pending(onRecord);
    this.#opened = new Pending(onRecord);
  }

  decode(bytes: Buffer): void {
    const from = new Fields(bytes);
    while (!from.atEnd) this.#one(from.byte(), from);
  }

  #one(seen: number, from: Fields): void {
    switch (seen) {
      case SEEN.OPEN: {
        const [key, returns, record] = begun('open', from);
        this.#begun(this.#opens, key, returns, { ...record, flags: from.word(), path: from.text() });
        break;
      }
      case SEEN.CONNECT: {
        const [key, returns, record] = begun('connect', from);
        this.#begun(this.#connects, key, returns, { ...record, ...socketAddress(from.block()) });
        break;
      }
      case SEEN.OPENED:
        this.#openEnded(from);
        break;
      case SEEN.CONNECTED: {
        const record = this.#connects.take(from.number());
        this.#tell(record, from.signed());
        break;
      }
      case SEEN.INSTALLED: {
        const record = this.#opened.take(from.number());
        this.#tell(record, from.signed());
        break;
      }
      case SEEN.EXEC: {
        const result = from.signed();
        const record = { ...who('exec', from), path: from.text() };
        this.#tell({ ...record, arguments: strings(from.block()) }, result);
        break;
      }
      default:
        // INVARIANT: `capture.ts` puts down nothing else.
        throw new Error(`a trace point has seen ${seen}`);
    }
  }

  #openEnded(from: Fields): void {
    const record = this.#opens.take(from.number());
    const error = from.signed();
    const getsDescriptor = from.byte() === 1;
    const file = from.number();
    if (record === undefined) return;
    if (error === 0 && getsDescriptor) this.#opened.add(file, record);
    else this.#onRecord(error === 0 ? record : { ...record, result: error });
  }

  /** Told when its function returns; at once when it is not known where to. */
  #begun(pending: Pending, key: number, returns: boolean, record: Draft): void {
    if (returns) pending.add(key, record);
    else this.#onRecord(record);
  }

  #tell(record: Draft | undefined, result: number): void {
    if (record !== undefined) this.#onRecord({ ...record, result });
  }
}

function begun(kind: TraceKind, from: Fields): [key: number, returns: boolean, record: Draft] {
  const key = from.number();
  const returns = from.byte() === 1;
  return [key, returns, who(kind, from)];
}

function who(kind: TraceKind, from: Fields): Draft {
  return {
    time: from.number(),
    kind,
    pid: from.signed(),
    ppid: from.signed(),
    uid: from.word(),
    euid: from.word(),
    comm: from.fixedText(COMM_BYTES),
  };
}

/** Each with a NUL behind it. */
const strings = (bytes: Buffer): string[] =>
  bytes.toString('utf8').split('\0').slice(0, -1).slice(0, ARGUMENTS_MAX);

/** Reads one field after the other. */
class Fields {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get atEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  byte(): number {
    return this.#bytes.readUInt8(this.#move(1));
  }
  word(): number {
    return this.#bytes.readUInt32LE(this.#move(4));
  }
  signed(): number {
    return this.#bytes.readInt32LE(this.#move(4));
  }
  number(): number {
    return this.#bytes.readDoubleLE(this.#move(8));
  }

  block(): Buffer {
    const length = this.word();
    return this.#bytes.subarray(this.#move(length), this.#at);
  }
  text(): string {
    return this.block().toString('utf8');
  }
  fixedText(length: number): string {
    const bytes = this.#bytes.subarray(this.#move(length), this.#at);
    const end = bytes.indexOf(0);
    return bytes.toString('utf8', 0, end < 0 ? length : end);
  }

  /** Steps over a field; where it begins. */
  #move(length: number): number {
    this.#at += length;
    return this.#at - length;
  }
}

/** Records of calls that have not come to their end, by what they will be known by then. */
class Pending {
  readonly #records = new Map<number, Draft>();
  readonly #onRecord: (record: TraceRecord) => void;

  constructor(onRecord: (record: TraceRecord) => void) {
    this.#onRecord = onRecord;
  }

  /** One that was known by the same did not come to its end where that could be seen. */
  add(key: number, record: Draft): void {
    this.#giveUp(key);
    this.#records.set(key, record);
    if (this.#records.size > PENDING_MAX) this.#giveUp(this.#records.keys().next().value!);
  }

  take(key: number): Draft | undefined {
    const record = this.#records.get(key);
    if (record !== undefined) this.#records.delete(key);
    return record;
  }

  #giveUp(key: number): void {
    const record = this.take(key);
    if (record !== undefined) this.#onRecord(record);
  }
}
