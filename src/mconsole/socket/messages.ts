/** Messages between the daemon's main thread and the thread of the sockets. */

/** `workerData` of the thread. */
export interface SocketThreadData {
  /** An eventfd: the main thread makes it readable after each message, as the thread waits in poll(2). */
  readonly wakeFd: number;
}

export type ToSocketThread =
  /** Binds a socket to `path`. Answered by `opened` or `failed`. */
  | { readonly type: 'open'; readonly socket: number; readonly path: string }
  /** Answers a request. */
  | { readonly type: 'reply'; readonly request: number; readonly err: number; readonly text: string }
  /** Sends a datagram from the socket to that at `path`. */
  | { readonly type: 'send'; readonly socket: number; readonly path: string; readonly bytes: Uint8Array }
  /** Takes no more requests; what was answered is still sent. Answered by `closed`. */
  | { readonly type: 'close'; readonly socket: number }
  /** Ends the thread. */
  | { readonly type: 'end' };

export type FromSocketThread =
  | { readonly type: 'opened'; readonly socket: number }
  | { readonly type: 'failed'; readonly socket: number; readonly message: string }
  | { readonly type: 'closed'; readonly socket: number }
  /** A command. Every one gets exactly one `reply`. */
  | {
      readonly type: 'request';
      readonly socket: number;
      readonly request: number;
      readonly text: string;
    };
