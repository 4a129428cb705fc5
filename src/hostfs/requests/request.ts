/** How a request is served. */
import type { MaybePromise } from '../../engine/backends.ts';
import type { Session } from '../session.ts';
import type { MessageReader, MessageWriter } from '../wire.ts';

/**
 * Reads the request's fields and writes the reply's; throws Errno. A promise says that the reply, which then has no
 * fields, is due when it settles.
 */
export type Handler = (session: Session, request: MessageReader, reply: MessageWriter) => MaybePromise<void>;

/** By type of request. */
export type Handlers = Readonly<Record<number, Handler>>;
