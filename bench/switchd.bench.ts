/**
 * How many frames per second the switch moves. Run with `node bench/switchd.bench.ts`.
 * First the forwarding alone, one thread; then from a sender's thread through the switch's to a receiver's.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Segment } from '../src/switchd/fabric/segment.ts';
import { startSwitch } from '../src/switchd/index.ts';
import { createPortRings, openNicPort, openSwitchPort } from '../src/switchd/port-rings.ts';
import { RingConsumer } from '../src/switchd/ring/consumer.ts';
import { ringViews } from '../src/switchd/ring/layout.ts';

const MACS = ['02:00:00:00:00:01', '02:00:00:00:00:02'] as const;
const BATCH = 256;
/** Frames that may be on their way: fewer than fit into a ring, so that none is lost. */
const WINDOW = 4096;

/** Slots of the words that sender and receiver share. */
const RECEIVED = 0;

interface Role {
  readonly role: 'send' | 'receive';
  readonly ring: SharedArrayBuffer;
  readonly shared: SharedArrayBuffer;
  readonly frames: number;
  readonly frameBytes: number;
}

function testFrame(bytes: number): Uint8Array {
  const frame = new Uint8Array(bytes);
  frame.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
  return frame;
}

/** Frames per second through one segment in this thread: into A's ring, forwarded, out of B's. */
function forwarding(frameBytes: number, frames: number): number {
  const segment = new Segment({ hub: false });
  const [a, b] = [createPortRings(), createPortRings()];
  const [inA, inB] = [openSwitchPort(a), openSwitchPort(b)];
  const portA = segment.add('a', inA.output)!;
  const portB = segment.add('b', inB.output)!;
  const sender = openNicPort(a);
  const receiver = new RingConsumer(ringViews(b, 'switch'));
  segment.macTable.learn(0x0200, 2, portB.slot, 0);
  const pieces = [testFrame(frameBytes)];
  let received = 0;
  const start = performance.now();
  for (let sent = 0; sent < frames; sent += BATCH) {
    for (let i = 0; i < BATCH; i++) sender.send(pieces);
    while (inA.input.next()) segment.forward(portA, inA.input);
    segment.flush();
    inA.input.release();
    while (receiver.next()) received++;
    receiver.release();
  }
  const seconds = (performance.now() - start) / 1000;
  if (received < frames) throw new Error(`${frames - received} frames were lost`);
  return received / seconds;
}

function receive({ ring, shared, frames }: Role): void {
  const nic = openNicPort(ring);
  const counters = new Int32Array(shared);
  let received = 0;
  parentPort!.ref();
  nic.onReadable(() => {
    while (nic.receive() !== undefined) received++;
    Atomics.store(counters, RECEIVED, received);
    Atomics.notify(counters, RECEIVED);
    if (received >= frames) parentPort!.postMessage('done');
  });
  parentPort!.on('message', () => undefined);
}

function send({ ring, shared, frames, frameBytes }: Role): void {
  const nic = openNicPort(ring);
  const counters = new Int32Array(shared);
  const pieces = [testFrame(frameBytes)];
  const window = Math.min(WINDOW, Math.floor(400_000 / (frameBytes + 8)));
  for (let sent = 0; sent < frames; sent++) {
    for (;;) {
      const received = Atomics.load(counters, RECEIVED);
      if (sent - received < window) break;
      Atomics.wait(counters, RECEIVED, received, 100);
    }
    nic.send(pieces);
  }
}

/** Frames per second between two ports of a running switch, each port in a thread of its own. */
async function acrossThreads(frameBytes: number, frames: number): Promise<number> {
  const ethernet = await startSwitch({
    onError: (error) => {
      throw error;
    },
  });
  await ethernet.createNetwork({ id: 'n', name: 'bench', subnet: '10.77.0.0/24' });
  const attach = (index: 0 | 1) =>
    ethernet.attach({ networkId: 'n', portId: `p${index}`, name: `vm-${index}`, mac: MACS[index] });
  const [a, b] = [await attach(0), await attach(1)];
  const shared = new SharedArrayBuffer(64);
  const spawn = (role: Role['role'], ring: SharedArrayBuffer) =>
    new Worker(new URL(import.meta.url), {
      workerData: { role, ring, shared, frames, frameBytes } satisfies Role,
    });
  // The receiver speaks first, so that its address is known.
  const hello = testFrame(64);
  hello.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2]);
  const greeter = openNicPort(b.ring);
  greeter.send([hello]);
  greeter.close();
  const receiver = spawn('receive', b.ring);
  await new Promise((resolve) => receiver.once('online', resolve));
  const done = new Promise((resolve) => receiver.once('message', resolve));
  const start = performance.now();
  const sender = spawn('send', a.ring);
  await done;
  const seconds = (performance.now() - start) / 1000;
  await Promise.all([receiver.terminate(), sender.terminate(), ethernet.close()]);
  return frames / seconds;
}

async function main(): Promise<void> {
  const million = (perSecond: number): string => `${(perSecond / 1e6).toFixed(2)} M frames/s`;
  for (const bytes of [64, 1514]) {
    forwarding(bytes, 200_000); // until the code is optimized
    console.log(`forwarding, one thread, ${bytes} B: ${million(forwarding(bytes, 3_000_000))}`);
    console.log(`three threads, ${bytes} B: ${million(await acrossThreads(bytes, 3_000_000))}`);
  }
}

if (isMainThread) await main();
else {
  const role = workerData as Role;
  if (role.role === 'send') send(role);
  else receive(role);
}
