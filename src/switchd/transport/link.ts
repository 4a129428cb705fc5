/** What a transport's thread works with: a descriptor that frames go in and out of. */
import type { FrameSlots, FrameTransfer, SendEnd } from '../uml/frame-slots.ts';

/** For one thread. Nothing here waits, but for opening. */
export interface Link {
  /** Readable when there are frames. */
  readonly fd: number;
  /** Readable when the other side has ended it. */
  readonly controlFd?: number | undefined;
  /** For who connects to it from outside: the path of a pseudo-terminal. */
  readonly path?: string | undefined;
  /** Has frames of its own making, without its descriptor being readable. */
  readonly hasFrames?: boolean | undefined;
  /** Frames that are there, into the transfer's arena. Gives their number; undefined when it has ended. */
  receive(): number | undefined;
  /** Sends `slots[0 … count)` of `from`. `sent` frames have left. */
  send(from: FrameSlots, slots: Int32Array, count: number): { readonly sent: number; readonly end: SendEnd };
  close(): void;
}

/** Opens a link. Throws AppError, or an error with errno's name as `code`. */
export type LinkOpener = (transfer: FrameTransfer) => Link;

/** What `receive` gives for the result of a read: undefined after an error that stays. */
export function receiveEnd(count: number, errno: string): number | undefined {
  if (count >= 0) return count;
  const isTransient = errno === 'EAGAIN' || errno === 'EINTR' || errno === 'ENOBUFS' || errno === 'ENETDOWN';
  return isTransient ? 0 : undefined;
}
