/** The stream of events: resumed after the last one seen, however often the connection breaks. */
import { call, openSocket, Problem } from './api.js';

const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 15_000;

/**
 * `onEvent(event)` for each event, `onLink(connected)` when the connection comes and goes; `onLink(true)` is also
 * the time to read everything anew. Returns the function that ends it.
 */
export function followEvents({ onEvent, onLink }) {
  let ended = false;
  let socket;
  let timer;
  let lastSeq;
  let retryMs = RETRY_MS_MIN;

  function again() {
    if (ended) return;
    onLink(false);
    timer = setTimeout(connect, retryMs);
    retryMs = Math.min(retryMs * 2, RETRY_MS_MAX);
  }

  async function connect() {
    try {
      const ticket = await call('POST', '/v1/events/ticket', {});
      if (ended) return;
      socket = openSocket(ticket.path, { after: lastSeq });
    } catch (error) {
      // A token that is no longer good does not get better by trying: the page's next request says so.
      if (!(error instanceof Problem && error.status === 401)) again();
      return;
    }
    socket.addEventListener('open', () => {
      retryMs = RETRY_MS_MIN;
      onLink(true);
    });
    socket.addEventListener('message', ({ data }) => {
      const event = JSON.parse(data);
      lastSeq = event.seq;
      onEvent(event);
    });
    socket.addEventListener('close', again);
  }

  connect();
  return () => {
    ended = true;
    clearTimeout(timer);
    socket?.close();
  };
}
