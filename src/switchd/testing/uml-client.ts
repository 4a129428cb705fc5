/** A client of uml_switch's protocol for tests: its control connection and its data socket, as raw bytes. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { encodeRequest } from '../uml/control-request.ts';
import { FrameTransfer, SLOT_FRAME_BYTES_MAX } from '../uml/frame-slots.ts';
import { connectSocket, EPOLLIN, Epoll, libc, openDatagramSocket, unixAddress } from '../uml/libc.ts';

const WAIT_MS = 3000;
const REPLY_BYTES = 110;

/** 108 bytes with NULs and garbage within, as linux.uml's. */
export function abstractName(): Uint8Array {
  const name = Buffer.alloc(108, 0xa5);
  name.writeUInt32LE(0, 0);
  name.set(randomBytes(6), 4);
  name.fill(0, 40, 50);
  return name;
}

export async function openControl(path: string): Promise<Socket> {
  const control = connect(path);
  await once(control, 'connect');
  // A switch that closes may do so with a reset.
  control.on('error', () => undefined);
  return control;
}

/** Resolves with the answer; undefined when the switch closes instead. */
export function answerTo(control: Socket): Promise<Uint8Array | undefined> {
  return new Promise((resolve) => {
    control.once('data', (bytes: Uint8Array) => resolve(bytes));
    control.once('close', () => resolve(undefined));
  });
}

export class UmlClient {
  readonly control: Socket;
  /** The switch's data socket. */
  readonly peer: Uint8Array;
  readonly #fd: number;
  /** One for all: its memory is the C library's, and would stay. */
  static #shared: FrameTransfer | undefined;
  readonly #transfer: FrameTransfer;
  readonly #epoll = new Epoll();
  #inbox: Uint8Array[] = [];

  private constructor(control: Socket, peer: Uint8Array, fd: number) {
    this.control = control;
    this.peer = peer;
    this.#fd = fd;
    UmlClient.#shared ??= new FrameTransfer();
    this.#transfer = UmlClient.#shared;
    this.#epoll.add(fd, EPOLLIN);
    connectSocket(fd, peer);
  }

  static async join(path: string, encode = encodeRequest): Promise<UmlClient> {
    const name = abstractName();
    const fd = openDatagramSocket(unixAddress(name));
    const control = await openControl(path);
    control.write(encode(name));
    const answer = await answerTo(control);
    if (answer?.length !== REPLY_BYTES) throw new Error(`an answer of ${answer?.length} bytes`);
    return new UmlClient(control, Uint8Array.from(answer), fd);
  }

  /** False: there was no room. */
  send(frame: Uint8Array): boolean {
    const arena = this.#transfer.arena.select(0);
    arena.bytes.set(frame.subarray(0, SLOT_FRAME_BYTES_MAX), arena.offset);
    arena.lengths[0] = frame.length;
    return this.#transfer.send(this.#fd, arena, new Int32Array(1), 1).end === 'done';
  }

  /** The next frame; undefined when none comes within `waitMs`. Blocks the thread. */
  receive(waitMs = WAIT_MS): Uint8Array | undefined {
    if (this.#inbox.length === 0) {
      this.#epoll.wait(waitMs, () => undefined);
      const count = this.#transfer.receive(this.#fd);
      for (let slot = 0; slot < count; slot++) {
        const { bytes, offset, length } = this.#transfer.arena.select(slot);
        this.#inbox.push(Uint8Array.from(bytes.subarray(offset, offset + length)));
      }
    }
    return this.#inbox.shift();
  }

  /** As the end of its process. */
  async die(): Promise<void> {
    this.#epoll.close();
    libc().close(this.#fd);
    this.control.destroy();
    if (!this.control.closed) await once(this.control, 'close');
  }
}
