/** The event log as a stream: first what happened after a number, then what happens, without a gap between. */
import type { WebSocket } from 'ws';
import type { Event } from '../../contracts/api/index.ts';
import { typeFilter, type EventLog, type LoggedEvent, type Principal } from '../../vmm/index.ts';

const BUFFERED_BYTES_MAX = 1024 * 1024;
const REPLAY_BATCH = 500;
/** As the console's: the client connects again with the last number it has seen. */
const TOO_SLOW = 4008;

export interface EventStreamOptions {
  /** Only new ones when missing. */
  readonly after?: number | undefined;
  readonly type?: string | undefined;
}

export function serveEvents(
  socket: WebSocket,
  log: EventLog,
  who: Principal,
  options: EventStreamOptions,
): void {
  const wanted = typeFilter(options.type);
  let sent = options.after ?? log.lastSeq();
  let live = false;

  const send = (event: Event): void => socket.send(JSON.stringify(event));
  const onEvent = ({ tenant, event }: LoggedEvent): void => {
    if (!live || event.seq <= sent) return;
    sent = event.seq;
    if (!wanted(event.type) || (who.role !== 'admin' && tenant !== who.tenant)) return;
    if (socket.bufferedAmount > BUFFERED_BYTES_MAX)
      socket.close(TOO_SLOW, 'the events were not read fast enough');
    else send(event);
  };
  /** Reads on as the client takes what it was sent; then everything that comes is sent at once. */
  const replay = (): void => {
    if (socket.readyState !== socket.OPEN) return;
    if (socket.bufferedAmount > BUFFERED_BYTES_MAX) {
      setTimeout(replay, 50);
      return;
    }
    const page = log.after(who, sent, REPLAY_BATCH, wanted);
    for (const event of page.items) send(event);
    sent = page.last_seq;
    if (page.items.length < REPLAY_BATCH) live = true;
    else setImmediate(replay);
  };

  const unsubscribe = log.subscribe(onEvent);
  socket.on('close', unsubscribe);
  socket.on('error', unsubscribe);
  replay();
}
