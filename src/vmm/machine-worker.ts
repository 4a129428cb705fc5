/**
 * Entry of a VM's worker thread: puts the engine, the disks and the switch ports together and answers the
 * messages of `contracts/ports.ts`. The thread ends by itself after `ended`.
 */
import { readFileSync } from 'node:fs';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { toAppError } from '../contracts/errors.ts';
import type {
  ConsoleMessage,
  FromMachine,
  MachineEnd,
  MachineWorkerData,
  ToMachine,
} from '../contracts/ports.ts';
import { BootError } from '../engine/boot/errors.ts';
import { MachineHost, RunStateError } from './machine-host.ts';

type ReplyError = Extract<FromMachine, { readonly type: 'reply-error' }>;

/** What another thread is told of an error. */
function describe(error: unknown): Pick<ReplyError, 'code' | 'message' | 'field' | 'remedy'> {
  if (error instanceof RunStateError || error instanceof BootError) {
    return { code: error.code, message: error.message };
  }
  const { code, message, field, remedy } = toAppError(error);
  return { code, message, field, remedy };
}

function takeConsole(host: MachineHost, message: ConsoleMessage): void {
  switch (message.type) {
    case 'console-input':
      host.input(message.console, message.bytes);
      break;
    case 'console-output-taken':
      host.outputTaken(message.console, message.bytes);
      break;
    case 'console-size':
      host.resize(message.console, message.columns, message.rows);
      break;
  }
}

async function answer(
  host: MachineHost,
  post: (message: FromMachine) => void,
  message: ToMachine,
): Promise<void> {
  if (message.type !== 'request') {
    takeConsole(host, message);
    return;
  }
  const { id, request } = message;
  const report = (done: number, total: number): void => post({ type: 'progress', id, done, total });
  try {
    post({ type: 'reply', id, result: await host.request(request, report) });
  } catch (error) {
    post({ type: 'reply-error', id, ...describe(error) });
  }
}

/** What the thread is started with: the VM, and a port of a `CompileService`. */
type WorkerData = MachineWorkerData & { readonly compiler?: MessagePort };

async function main(port: MessagePort, { compiler, ...data }: WorkerData): Promise<void> {
  const post = (message: FromMachine): void => port.postMessage(message);
  let end: MachineEnd;
  let host: MachineHost | undefined;
  try {
    host = new MachineHost(data, (path) => readFileSync(path), post, compiler);
    const running = host;
    port.on('message', (message: ToMachine) => void answer(running, post, message));
    end = await running.run();
  } catch (error) {
    const { code, message } = describe(error);
    end = { reason: 'error', code, detail: message };
  }
  try {
    await host?.close();
  } catch (error) {
    const { code, message } = describe(error);
    end = { reason: 'error', code, detail: `the disks could not be closed: ${message}` };
  }
  post({ type: 'ended', end });
  port.close();
}

// INVARIANT: this file is only ever started as a worker, with MachineWorkerData.
await main(parentPort as MessagePort, workerData as WorkerData);
