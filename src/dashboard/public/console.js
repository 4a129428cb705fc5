/** A VM's console in xterm.js over a WebSocket. */
import { FitAddon } from '/vendor/xterm/addon-fit.mjs';
import { Terminal } from '/vendor/xterm/xterm.mjs';
import { call, openSocket, segment } from './api.js';

const KEY_LEAVE = ']';

/**
 * Fills `container`. `onLeave` is called for Ctrl+], because the terminal takes every other key, Tab too.
 * Returns an object with `close()`.
 */
export async function openConsole({ vm, console: name, container, onLeave }) {
  const ticket = await call('POST', `/v1/vms/${segment(vm)}/consoles/${segment(name)}/ticket`, {});
  const terminal = new Terminal({
    cursorBlink: true,
    fontSize: 14,
    screenReaderMode: true,
    scrollback: 5000,
  });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(container);
  fit.fit();
  const resized = new ResizeObserver(() => fit.fit());
  resized.observe(container);

  const socket = openSocket(ticket.path);
  const encoder = new TextEncoder();
  const send = (bytes) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(bytes);
  };
  terminal.onData((text) => send(encoder.encode(text)));
  terminal.onBinary((text) => send(Uint8Array.from(text, (char) => char.charCodeAt(0))));
  terminal.attachCustomKeyEventHandler((event) => {
    if (event.type !== 'keydown' || !event.ctrlKey || event.key !== KEY_LEAVE) return true;
    onLeave();
    return false;
  });
  socket.addEventListener('message', ({ data }) => {
    terminal.write(typeof data === 'string' ? data : new Uint8Array(data));
  });
  socket.addEventListener('close', () => terminal.write('\r\n\x1b[7m The console is closed. \x1b[0m\r\n'));
  terminal.focus();

  return {
    close() {
      resized.disconnect();
      socket.close();
      terminal.dispose();
    },
  };
}
