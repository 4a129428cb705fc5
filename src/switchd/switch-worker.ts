/** Entry of the switch's worker thread. */
import { parentPort, workerData } from 'node:worker_threads';
import { toAppError } from '../contracts/errors.ts';
import type { FromSwitch, SwitchWorkerData, ToSwitch } from './protocol.ts';
import { Switch } from './switch.ts';
import { noteDescriptors } from './uml/descriptors.ts';

if (parentPort === null) throw new Error('switch-worker.ts runs as a worker thread only');
const port = parentPort;
noteDescriptors((workerData as SwitchWorkerData).descriptors);

function post(message: FromSwitch): void {
  port.postMessage(message);
}

const ethernet = new Switch((fault) => post({ type: 'port-fault', fault }));

async function answer({ id, request }: ToSwitch): Promise<FromSwitch> {
  try {
    return { type: 'reply', id, result: await ethernet.handle(request) };
  } catch (error) {
    return { type: 'reply-error', id, error: toAppError(error).toPlain() };
  }
}

// The listener also keeps the thread alive: pending Atomics.waitAsync calls do not.
port.on('message', (message: ToSwitch) => void answer(message).then(post));
post({ type: 'ready' });
