/** Messages between a transport's thread and the switch's. */
import type { PlainError } from '../../contracts/errors.ts';
import type { LinkTransport } from './open-link.ts';

export interface LinkWorkerData {
  readonly transport: LinkTransport;
  /** A port of the switch; the thread has the station's end. */
  readonly ring: SharedArrayBuffer;
  readonly wakeFd: number;
  /** The first attempt has to succeed. */
  readonly mustOpen: boolean;
  /** Where it notes its descriptors. */
  readonly descriptors: SharedArrayBuffer | undefined;
}

export type FromLinkWorker =
  | { readonly type: 'started' }
  | { readonly type: 'failed'; readonly error: PlainError }
  /** `error` is null when the link is up. */
  | { readonly type: 'state'; readonly error: string | null; readonly path: string | undefined };

export type ToLinkWorker = { readonly type: 'stop' };
