/** QEMU's isa-debug-exit: a write of V ends the run with status (V << 1) | 1. */
import type { Board, Device } from '../../machine/bus.ts';

const PORTS = 4;

/** Plugs the device in at `port`. */
export function debugExit(board: Board, port: number): Device {
  board.ports.map(port, PORTS, {
    name: 'isa-debug-exit',
    read: () => 0,
    write: (_offset, _size, value) => board.raise({ kind: 'debug-exit', status: ((value << 1) | 1) & 0xff }),
  });
  return { name: 'isa-debug-exit', reset() {} };
}
