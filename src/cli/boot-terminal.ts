/** Joins a machine's console to this process's standard input and signals. */
import type { MachineHost } from '../vmm/machine-host.ts';
import type { Io } from './io.ts';
import { ESCAPE_BYTE } from './terminal.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Passes standard input on, raw on a terminal. Ctrl-] on a terminal and
 * the usual signals end the machine. Returns a function that puts everything back.
 */
export function attachConsole(host: MachineHost, console: string, { stderr }: Io): () => void {
  const { stdin } = process;
  const isTerminal = stdin.isTTY === true;
  if (isTerminal) {
    stderr.write('Ctrl-] ends the machine.\r\n');
    stdin.setRawMode(true);
  }
  const halt = (): void => host.halt();
  const forward = (bytes: Buffer): void => {
    if (isTerminal && bytes.includes(ESCAPE_BYTE)) halt();
    else host.input(console, bytes);
  };
  stdin.on('data', forward);
  const ignoreSignals = haltOnSignals(host);
  return () => {
    ignoreSignals();
    stdin.off('data', forward);
    stdin.pause();
    if (isTerminal) stdin.setRawMode(false);
  };
}

/** The usual signals end the machine, and are told. Returns a function that puts them back. */
export function haltOnSignals(host: MachineHost, onSignal: () => void = () => undefined): () => void {
  const halt = (): void => {
    onSignal();
    host.halt();
  };
  for (const signal of SIGNALS) process.on(signal, halt);
  return () => {
    for (const signal of SIGNALS) process.off(signal, halt);
  };
}
