/** A file that is only appended to, and its predecessor: together they take no more than a given space. */
import * as fs from 'node:fs';
import { Readable } from 'node:stream';

export class BoundedLog {
  readonly #path: string;
  readonly #halfBytes: number;
  #fd: number | undefined;
  #bytes = 0;

  /** Nothing is made before the first `append`. */
  constructor(path: string, bytesMax: number) {
    this.#path = path;
    this.#halfBytes = bytesMax / 2;
  }

  /** Whole: a piece is never spread over two files. Throws what the file system says. */
  append(bytes: Uint8Array): void {
    if (this.#fd !== undefined && this.#bytes + bytes.length > this.#halfBytes) this.#turn();
    this.#fd ??= this.#open();
    for (let done = 0; done < bytes.length; ) done += fs.writeSync(this.#fd, bytes, done);
    this.#bytes += bytes.length;
  }

  close(): void {
    if (this.#fd !== undefined) fs.closeSync(this.#fd);
    this.#fd = undefined;
  }

  #open(): number {
    const fd = fs.openSync(this.#path, 'a', 0o600);
    this.#bytes = fs.fstatSync(fd).size;
    return fd;
  }

  #turn(): void {
    this.close();
    fs.renameSync(this.#path, previousOf(this.#path));
  }
}

const previousOf = (path: string): string => `${path}.1`;

const filesOf = (path: string): string[] => [previousOf(path), path].filter((file) => fs.existsSync(file));

/** All that is kept of a log, the oldest first. Empty when there is none. */
export function readBounded(path: string): Buffer {
  return Buffer.concat(filesOf(path).map((file) => fs.readFileSync(file)));
}

/** The same piece by piece. */
export function streamBounded(path: string): Readable {
  return Readable.from(pieces(path), { objectMode: false });
}

async function* pieces(path: string): AsyncGenerator<Buffer> {
  for (const file of filesOf(path)) yield* fs.createReadStream(file) as AsyncIterable<Buffer>;
}
