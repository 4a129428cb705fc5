/** Entry of the worker thread of a UML switch's data path. It never turns its event loop: messages are fetched. */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { toAppError } from '../../contracts/errors.ts';
import { UNKNOWN } from '../fabric/mac-table.ts';
import { RingConsumer } from '../ring/consumer.ts';
import { ringViews } from '../ring/layout.ts';
import { RingProducer } from '../ring/producer.ts';
import { formatStation } from '../wire/address.ts';
import { DataPath } from './data-path.ts';
import { noteDescriptors } from './descriptors.ts';
import type { DataRequest, DataWorkerOptions, FromDataWorker, ToDataWorker } from './messages.ts';

/** Reports of stations per second: a client can make them up. */
const REPORTS_MAX = 100;

if (parentPort === null) throw new Error('data-worker.ts runs as a worker thread only');
const parent = parentPort;
const options = workerData as DataWorkerOptions;
noteDescriptors(options.descriptors);
const path = new DataPath(options);

function post(message: FromDataWorker): void {
  parent.postMessage(message);
}

function handle(request: DataRequest): unknown {
  switch (request.type) {
    case 'join':
      return path.join(request.portId, request.name);
    case 'leave':
      return path.leave(request.portId);
    case 'tap':
      return path.addTap(request.portId, request.device);
    case 'ports':
      return path.ports();
    case 'stop':
      return path.stop();
  }
}

function answer({ id, request }: ToDataWorker): FromDataWorker {
  try {
    return { type: 'reply', id, result: handle(request) };
  } catch (error) {
    return { type: 'reply-error', id, error: toAppError(error).toPlain() };
  }
}

function handleMessages(): void {
  for (;;) {
    const received = receiveMessageOnPort(parent);
    if (received === undefined) return;
    post(answer(received.message as ToDataWorker));
  }
}

function reportStations(): void {
  let second = 0;
  let count = 0;
  path.segment.macTable.onChange = (high, low, slot, old) => {
    const now = Math.floor(performance.now() / 1000);
    count = now === second ? count + 1 : 1;
    second = now;
    if (count > REPORTS_MAX) return;
    const oldPort = old === UNKNOWN ? undefined : old;
    post({ type: 'station', report: { mac: formatStation(high, low), port: slot, oldPort } });
  };
}

if (options.reportStations) reportStations();
if (options.ring !== undefined) {
  const input = new RingConsumer(ringViews(options.ring, 'switch'));
  path.addTrunk({ id: 'trunk', input, outlet: new RingProducer(ringViews(options.ring, 'vm')) });
}
path.run(handleMessages);
parent.close();
