/**
 * How many frames per second the switch moves. Run with `node bench/switchd.bench.ts`.
 * First the forwarding alone, one thread; then from a sender's thread through the switch's to a receiver's.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Ipv6Claims } from '../src/switchd/fabric/guard-ipv6.ts';
import type { Port } from '../src/switchd/fabric/port.ts';
import { Pump } from '../src/switchd/fabric/pump.ts';
import { Segment } from '../src/switchd/fabric/segment.ts';
import { type PortSettings, startSwitch } from '../src/switchd/index.ts';
import { createPortRings, openNicPort, openSwitchPort, type RingNicPort } from '../src/switchd/port-rings.ts';
import { checkPort } from '../src/switchd/port-settings.ts';
import { RingConsumer } from '../src/switchd/ring/consumer.ts';
import { RING_BYTES_MIN, ringViews } from '../src/switchd/ring/layout.ts';
import { parseMac, parseSubnet } from '../src/switchd/wire/address.ts';

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
  // UDP from 10.77.0.50 to 10.77.0.51.
  frame.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00]);
  frame.set([0x45, 0, 0, bytes - 14, 0, 0, 0, 0, 64, 17, 0, 0, 10, 77, 0, 50, 10, 77, 0, 51], 14);
  frame.set([4, 0, 8, 0, 0, bytes - 34], 34);
  return frame;
}

interface Lab {
  readonly segment: Segment;
  readonly from: Port;
  readonly inlet: RingConsumer;
  readonly sender: RingNicPort;
  readonly receiver: RingConsumer;
}

const SUBNET = parseSubnet('10.77.0.0/16')!;

/** Two ports of a segment, both with these settings. */
function lab(settings: (index: 0 | 1) => PortSettings): Lab {
  const segment = new Segment({ hub: false, vlans: true });
  const surroundings = { subnet: SUBNET, ipv6Prefix: undefined, claims: new Ipv6Claims() };
  const [a, b] = [createPortRings(), createPortRings()];
  const [endA, endB] = [openSwitchPort(a), openSwitchPort(b)];
  const rules = (index: 0 | 1) => checkPort(settings(index), parseMac(MACS[index])!, surroundings).rules;
  const from = segment.add('a', endA.output, rules(0))!;
  const to = segment.add('b', endB.output, rules(1))!;
  // Little-endian words of VLAN 1 and 02:00:00:00:00:02.
  segment.macTable.learn((1 << 16) | 0x0200, 2, to.slot, 0);
  const receiver = new RingConsumer(ringViews(b, 'switch'));
  return { segment, from, inlet: endA.input, sender: openNicPort(a), receiver };
}

/** This thread's processor time so far, in seconds. */
function cpuSeconds(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1e6;
}

/**
 * Frames per second of processor time through one segment in this thread: into A's ring, forwarded, out of B's. Others
 * that use the machine at the same time do not count.
 */
function forwarding(
  { segment, from, inlet, sender, receiver }: Lab,
  frame: Uint8Array,
  frames: number,
): number {
  const pieces = [frame];
  let received = 0;
  const start = cpuSeconds();
  for (let sent = 0; sent < frames; sent += BATCH) {
    for (let i = 0; i < BATCH; i++) sender.send(pieces);
    segment.setTime(performance.now() / 1000);
    while (inlet.next()) segment.forward(from, inlet);
    segment.flush();
    inlet.release();
    while (receiver.next()) received++;
    receiver.release();
  }
  const seconds = cpuSeconds() - start;
  if (received < frames) throw new Error(`${frames - received} frames were lost`);
  return received / seconds;
}

const fast = { bitsPerSecond: 1e12, packetsPerSecond: 1e9 };
const VARIANTS: readonly [what: string, settings: (index: 0 | 1) => PortSettings][] = [
  ['no rules', () => ({})],
  ['protected', (index) => ({ protection: {}, addresses: [`10.77.0.5${index}`] })],
  [
    'protected, limited both ways',
    (index) => ({
      protection: {},
      addresses: [`10.77.0.5${index}`],
      limits: { fromPort: fast, toPort: fast },
    }),
  ],
  [
    'protected, with a firewall at both ends',
    (index) => ({
      protection: {},
      addresses: [`10.77.0.5${index}`],
      firewall: [
        { direction: 'ingress', action: 'allow', protocol: 'udp' },
        { direction: 'egress', action: 'allow', protocol: 'any' },
      ],
    }),
  ],
];

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

/** Frames that each port sends before it looks for answers. */
const CROWD_BATCH = 64;

interface Crowd {
  /** Of processor time. */
  readonly framesPerSecond: number;
  /** What the port that got least got of what the one that got most got. */
  readonly fairness: number;
}

/** Ports that all send to their neighbor at once, through the switch's own rounds. */
async function crowd(count: number, frames: number): Promise<Crowd> {
  const segment = new Segment({ hub: false, vlans: true });
  const pump = new Pump();
  const surroundings = { subnet: SUBNET, ipv6Prefix: undefined, claims: new Ipv6Claims() };
  const macOf = (index: number): Uint8Array => Uint8Array.of(2, 0, 0, 0, index >> 8, index & 255);
  const members = Array.from({ length: count }, (_, index) => {
    const memory = createPortRings(RING_BYTES_MIN);
    const { input, output } = openSwitchPort(memory);
    const addresses = [`10.77.${10 + (index >> 8)}.${index & 255}`];
    const { rules } = checkPort({ protection: {}, addresses }, macOf(index), surroundings);
    const port = segment.add(`p${index}`, output, rules)!;
    const frame = testFrame(64);
    frame.set([...macOf((index + 1) % count), ...macOf(index)]);
    frame.set([10, 77, 10 + (index >> 8), index & 255], 26);
    pump.add({ port, segment, input, onCorrupt: fail, open: true });
    const mac = macOf(index);
    segment.macTable.learn((1 << 16) | (mac[5]! << 8) | mac[4]!, 2, port.slot, performance.now() / 1000);
    const receiver = new RingConsumer(ringViews(memory, 'switch'));
    return { sender: openNicPort(memory), pieces: [frame], receiver, received: 0 };
  });
  const start = cpuSeconds();
  let received = 0;
  while (received < frames) {
    for (const { sender, pieces } of members) for (let i = 0; i < CROWD_BATCH; i++) sender.send(pieces);
    await new Promise((resolve) => setImmediate(resolve));
    for (const member of members) {
      while (member.receiver.next()) member.received++;
      member.receiver.release();
    }
    received = members.reduce((sum, member) => sum + member.received, 0);
  }
  const counts = members.map((member) => member.received);
  return {
    framesPerSecond: received / (cpuSeconds() - start),
    fairness: Math.min(...counts) / Math.max(...counts),
  };
}

function fail(error: Error): never {
  throw error;
}

async function main(): Promise<void> {
  for (const ports of [2, 50, 500]) {
    await crowd(ports, 200_000); // until the code is optimized
    const { framesPerSecond, fairness } = await crowd(ports, 1_000_000);
    const share = `the least served got ${(100 * fairness).toFixed(0)} % of the most served`;
    console.log(
      `${ports} ports, all talking, 64 B: ${(framesPerSecond / 1e6).toFixed(2)} M frames/s; ${share}`,
    );
  }
  const million = (perSecond: number): string => `${(perSecond / 1e6).toFixed(2)} M frames/s`;
  for (const bytes of [64, 1514]) {
    for (const [what, settings] of VARIANTS) {
      const made = lab(settings);
      forwarding(made, testFrame(bytes), 200_000); // until the code is optimized
      const perSecond = forwarding(made, testFrame(bytes), 3_000_000);
      console.log(`forwarding, one thread, ${what}, ${bytes} B: ${million(perSecond)}`);
    }
    console.log(`three threads, ${bytes} B: ${million(await acrossThreads(bytes, 3_000_000))}`);
  }
}

if (isMainThread) await main();
else {
  const role = workerData as Role;
  if (role.role === 'send') send(role);
  else receive(role);
}
