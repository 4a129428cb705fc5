/** What a share's process and the VM's thread say to each other by pipes: frames of length[4] id[4] room[4] and a payload, little-endian. */

const HEADER_BYTES = 12;
/** Ids that are no request's: the configuration and its answer, and that the client has forgotten all that it had open. */
export const FRAME = { OPEN: 0, RESET: 1, FIRST_REQUEST: 2 } as const;

export interface Frame {
  readonly id: number;
  /** Bytes that a reply may have. */
  readonly room: number;
  readonly payload: Uint8Array;
}

export function encodeFrame({ id, room, payload }: Frame): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  bytes.writeUInt32LE(payload.length, 0);
  bytes.writeUInt32LE(id, 4);
  bytes.writeUInt32LE(room, 8);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

/** Puts frames together from what a pipe gives. */
export class FrameReader {
  #pieces: Buffer[] = [];
  #length = 0;

  /** The frames that are whole now. */
  *push(bytes: Buffer): Generator<Frame> {
    this.#pieces.push(bytes);
    this.#length += bytes.length;
    for (;;) {
      const header = this.#peek(HEADER_BYTES);
      if (header === undefined) return;
      const all = this.#peek(HEADER_BYTES + header.readUInt32LE(0));
      if (all === undefined) return;
      this.#take(all.length);
      yield { id: all.readUInt32LE(4), room: all.readUInt32LE(8), payload: all.subarray(HEADER_BYTES) };
    }
  }

  #peek(length: number): Buffer | undefined {
    if (this.#length < length) return undefined;
    if (this.#pieces[0]!.length < length) this.#pieces = [Buffer.concat(this.#pieces)];
    return this.#pieces[0]!.subarray(0, length);
  }

  #take(length: number): void {
    const rest = this.#pieces[0]!.subarray(length);
    this.#length -= length;
    if (rest.length > 0) this.#pieces[0] = rest;
    else this.#pieces.shift();
  }
}
