/**
 * What the engine needs from the host, declared by the engine and implemented elsewhere
 * (storage, switchd, the console hub, the foreground terminal). The engine imports none of them.
 */

export type MaybePromise<T> = T | Promise<T>;

/** An I/O error on a disk, as the guest will see it (VIRTIO_BLK_S_IOERR); `code` is errno's name. */
export class BlockError extends Error {
  readonly code: string;
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/**
 * A disk. Offsets and lengths are in bytes and multiples of 512. Vectors are views on guest memory:
 * data goes straight between file and guest. A method that returns undefined has finished; one that
 * returns a promise finishes later and may overlap with others. Failure throws or rejects with BlockError.
 */
export interface BlockBackend {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** The guest is not offered to discard, or to write zeros without sending them. */
  readonly noDiscard?: boolean;
  read(offset: number, into: readonly Uint8Array[]): MaybePromise<void>;
  write(offset: number, from: readonly Uint8Array[]): MaybePromise<void>;
  /** Makes every finished write durable (fdatasync on all that it covers). */
  flush(): MaybePromise<void>;
  /** The range may read as zeros afterwards and give its space back. */
  discard(offset: number, length: number): MaybePromise<void>;
  /** The range reads as zeros afterwards. */
  writeZeroes(offset: number, length: number, mayUnmap: boolean): MaybePromise<void>;
  close(): MaybePromise<void>;
}

/** What the guest's driver can finish itself in the frames that it receives. */
export interface NicOffloads {
  readonly checksum: boolean;
  /** Large TCP segments, over IPv4 and IPv6. */
  readonly tcp4: boolean;
  readonly tcp6: boolean;
}

/**
 * One end of a virtual Ethernet cable: raw frames from the destination MAC on, without FCS. With a frame go two words that
 * say what its receiver has to finish, 0 and 0 for nothing (virtio 1.2 §5.1.6):
 *   checksum: where the sum begins | where it goes, from there << 16
 *   segmentation: bytes of payload per TCP segment | virtio's gso_type << 16
 */
export interface NicPort {
  /**
   * Sends a frame given as consecutive pieces, which may be views on guest memory: they are copied before it returns.
   * False: there is no room now, and nothing was sent.
   */
  send(pieces: readonly Uint8Array[], checksum?: number, segmentation?: number): boolean;
  /** `ready` is called, later, when there may be room after `send` found none. */
  onWritable(ready: () => void): void;
  /** The next received frame, or undefined. The view is valid until the next call. */
  receive(): Uint8Array | undefined;
  /** Of the frame that `receive` gave last. */
  readonly checksum: number;
  readonly segmentation: number;
  /** What `receive` may leave to be finished; nothing at first. */
  accept(offloads: NicOffloads): void;
  /** `ready` is called when `receive` has something after it had nothing. */
  onReadable(ready: () => void): void;
  close(): void;
}

/** A byte stream that a serial port or a virtio console port is attached to. */
export interface CharPort {
  /** Bytes from the guest. The view is valid only during the call. */
  output(bytes: Uint8Array): void;
  /** Up to `max` bytes for the guest; an empty array when there are none. */
  input(max: number): Uint8Array;
  /** `ready` is called when `input` has something after it had nothing. */
  onReadable(ready: () => void): void;
  /** The guest has opened or closed its end, where the port knows. */
  opened?(open: boolean): void;
  /** Nobody reads its output at present: devices whose guests can wait make them wait. Without it there is always room. */
  isFull?(): boolean;
  /** `drained` is called when it is no longer full. */
  onDrained?(drained: () => void): void;
}

/** A folder of the host that a guest mounts: the server of 9P2000.L messages. */
export interface FileShare {
  /** No request is longer. */
  readonly messageBytesMax: number;
  /**
   * Serves one request, whatever is in it. `respond` gets the reply, of at most `replyBytesMax` bytes (11 at least), within
   * the call or later; what it gets, and `request`, are valid only until it or the call returns.
   */
  serve(request: Uint8Array, replyBytesMax: number, respond: (reply: Uint8Array) => void): void;
  /** Forgets all that the client has open. */
  reset(): void;
  close(): MaybePromise<void>;
}
