/** A viewer of a console at the other end of a WebSocket: raw bytes both ways, in binary messages; its size in text. */
import type { RawData, WebSocket } from 'ws';
import { CONSOLE_CLOSE, parseConsoleSize } from '../../contracts/api/index.ts';
import type { Instance, Viewer } from '../../vmm/index.ts';

/** Output that waits for a slow viewer; beyond, it is dropped. */
const BUFFERED_BYTES_MAX = 1024 * 1024;
/** What a viewer may send: far more than anybody types or pastes, far less than would fill the machine's queue. */
const INPUT_BYTES_PER_SECOND = 256 * 1024;

export function serveConsole(socket: WebSocket, instance: Instance, name: string, readOnly: boolean): void {
  const viewer: Viewer = {
    output(bytes) {
      if (socket.bufferedAmount > BUFFERED_BYTES_MAX) return false;
      socket.send(bytes, { binary: true });
      return true;
    },
    dropped(reason) {
      if (reason === 'gone') socket.close(CONSOLE_CLOSE.goingAway, 'the console is gone');
      else socket.close(CONSOLE_CLOSE.tooSlow, 'the output was not read fast enough');
    },
  };
  const handle = instance.consoles.attach(name, viewer);
  socket.on('message', (data: RawData, isBinary: boolean) => {
    const bytes = bytesOf(data);
    const size = isBinary ? undefined : parseConsoleSize(Buffer.from(bytes).toString('utf8'));
    if (size !== undefined) {
      if (!readOnly) handle.resize(size.columns, size.rows);
      return;
    }
    if (readOnly || bytes.length === 0) return;
    handle.input(bytes);
    slowDown(socket, bytes.length);
  });
  socket.on('close', () => handle.close());
  // A broken connection is closed by ws itself; `close` follows.
  socket.on('error', () => handle.close());
}

/** Reads nothing more until what was read would have come at the allowed rate. */
function slowDown(socket: WebSocket, bytes: number): void {
  const pauseMs = (bytes / INPUT_BYTES_PER_SECOND) * 1000;
  if (pauseMs < 10) return;
  socket.pause();
  setTimeout(() => socket.resume(), pauseMs);
}

/** A copy of its own: ws gives views on larger buffers, which must not go to another thread whole. */
function bytesOf(data: RawData): Uint8Array {
  const whole = Array.isArray(data)
    ? Buffer.concat(data)
    : data instanceof ArrayBuffer
      ? Buffer.from(data)
      : data;
  return new Uint8Array(whole);
}
