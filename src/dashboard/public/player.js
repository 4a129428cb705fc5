/** Plays a recording of a VM's console (asciicast v2) in xterm.js. */
import { Terminal } from '/vendor/xterm/xterm.mjs';
import { segment, text } from './api.js';

/** No pause is longer. */
const IDLE_SECONDS = 2;
/** RIS, Reset to Initial State (ECMA-48): of all that was written before, in its turn. */
const RESET = '\u001bc';

/** Header and events; lines that are none are passed over. */
function parse(recording) {
  const [header, ...events] = recording.split('\n').flatMap((line) => {
    try {
      return [JSON.parse(line)];
    } catch {
      return []; // an end that is cut off
    }
  });
  return { header, events: events.filter((event) => Array.isArray(event)) };
}

/**
 * Fills `container` with the recording of the console that has one and begins to play it; `onState` hears 'playing' and 'ended'.
 * Returns an object with `close()`, `again()`, and `setSpeed(factor)`, where 0 shows all that is left at once.
 */
export async function openPlayer({ vm, console: name, container, onState }) {
  const query = new URLSearchParams({ format: 'asciicast', ...(name !== undefined && { console: name }) });
  const { header, events } = parse(await text(`/v1/vms/${segment(vm)}/tty-log?${query}`));
  const terminal = new Terminal({
    cols: header?.width ?? 80,
    rows: header?.height ?? 24,
    disableStdin: true,
    fontSize: 14,
    screenReaderMode: true,
    scrollback: 5000,
  });
  terminal.open(container);
  let next = 0;
  let speed = 1;
  let timer;
  let isClosed = false;

  /** The terminal draws what it is given later: so the size changes when what came before has been drawn. */
  function resize(columns, rows) {
    terminal.write('', () => {
      if (!isClosed) terminal.resize(columns, rows);
    });
  }

  function show([, kind, data]) {
    if (kind === 'o') terminal.write(data);
    const [, columns, rows] = (kind === 'r' && /^(\d+)x(\d+)$/.exec(data)) || [];
    if (columns > 0 && rows > 0) resize(Number(columns), Number(rows));
  }

  function step() {
    clearTimeout(timer);
    while (next < events.length) {
      const before = next === 0 ? 0 : events[next - 1][0];
      const pause = Math.min(IDLE_SECONDS, Math.max(0, events[next][0] - before));
      if (speed > 0 && pause > 0) {
        timer = setTimeout(
          () => {
            show(events[next++]);
            step();
          },
          (pause / speed) * 1000,
        );
        return;
      }
      show(events[next++]);
    }
    onState('ended');
  }

  function again() {
    next = 0;
    terminal.write(RESET);
    resize(header?.width ?? 80, header?.height ?? 24);
    onState('playing');
    step();
  }
  again();

  return {
    again,
    setSpeed(factor) {
      speed = factor;
      if (next < events.length) step();
    },
    close() {
      isClosed = true;
      clearTimeout(timer);
      terminal.dispose();
    },
  };
}
