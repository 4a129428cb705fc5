/** Entry of a transport's thread. It never turns its event loop: messages are fetched. */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { AppError, systemErrorCode, toAppError } from '../../contracts/errors.ts';
import { RingConsumer } from '../ring/consumer.ts';
import { ringViews } from '../ring/layout.ts';
import { RingProducer } from '../ring/producer.ts';
import { noteDescriptors } from '../uml/descriptors.ts';
import { LinkLoop } from './link-loop.ts';
import type { FromLinkWorker, LinkWorkerData } from './link-messages.ts';
import { linkOpener } from './open-link.ts';

if (parentPort === null) throw new Error('link-worker.ts runs as a worker thread only');
const parent = parentPort;
const { transport, ring, wakeFd, mustOpen, descriptors } = workerData as LinkWorkerData;
noteDescriptors(descriptors);

function post(message: FromLinkWorker): void {
  parent.postMessage(message);
}

const loop: LinkLoop = new LinkLoop({
  input: new RingConsumer(ringViews(ring, 'switch')),
  output: new RingProducer(ringViews(ring, 'vm')),
  wakeFd,
  open: linkOpener(transport),
  onMessages() {
    if (receiveMessageOnPort(parent) !== undefined) loop.stop();
  },
  onState(error) {
    const text = error === undefined ? null : error instanceof Error ? error.message : String(error);
    post({ type: 'state', error: text, path: loop.path });
  },
});

function linkError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  const code = systemErrorCode(error);
  if (code === undefined) return toAppError(error);
  const isPermission = code === 'EPERM' || code === 'EACCES';
  const detail = `the transport ${transport.kind} cannot be opened: ${toAppError(error).message}`;
  return new AppError(isPermission ? 'forbidden' : 'unreachable', detail, { field: 'uplink', cause: error });
}

try {
  if (mustOpen) loop.start();
  post({ type: 'started' });
  loop.run();
} catch (error) {
  post({ type: 'failed', error: linkError(error).toPlain() });
}
parent.close();
