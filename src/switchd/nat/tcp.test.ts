import { once } from 'node:events';
import { createServer } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { FrameBuffer } from '../ring/frame-buffer.ts';
import { buildEthernet, ETHERTYPE_IPV4 } from '../wire/ethernet.ts';
import { buildIpv4, PROTOCOL_TCP } from '../wire/ipv4.ts';
import { Nat } from './nat.ts';
import { AS_THE_USER, NatPolicy } from './policy.ts';

const [GUEST, GATEWAY] = [0x0a00_020f, 0x0a00_0202];
const RST = 4;
const SYN = 2;

/** A NAT in this thread; the flags of the segments that it sends, by the guest's port. */
function lab() {
  const answers = new Map<number, number>();
  let changed = Promise.withResolvers<void>();
  const nat = new Nat({
    mac: Uint8Array.of(2, 0, 0, 0, 0, 9),
    address: Uint8Array.of(10, 0, 2, 2),
    address6: () => undefined,
    policy: new NatPolicy(AS_THE_USER),
    locate: () => undefined,
    begin: () => undefined,
    publish: () => undefined,
    emit: ({ bytes, offset }) => {
      answers.set((bytes[offset + 36]! << 8) | bytes[offset + 37]!, bytes[offset + 47]!);
      changed.resolve();
    },
  });
  onTestFinished(() => nat.close());
  const frame = new FrameBuffer();
  const syn = (fromPort: number, toPort: number, slot: number): void => {
    const segment = Buffer.alloc(20);
    segment.writeUInt16BE(fromPort, 0);
    segment.writeUInt16BE(toPort, 2);
    segment.writeUInt32BE(7, 4);
    segment.writeUInt16BE((20 << 10) | SYN, 12);
    const payload = buildIpv4({
      source: GUEST,
      destination: GATEWAY,
      protocol: PROTOCOL_TCP,
      payload: segment,
    });
    const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
    frame.set(buildEthernet({ destination: mac, source: mac, type: ETHERTYPE_IPV4, payload }));
    // The checksum is left to the receiver, who need not have it.
    frame.setOffload(34 | (16 << 16), 0);
    nat.receive(frame, slot);
    nat.flush();
  };
  /** Until as many ports have an answer. */
  const answered = async (count: number): Promise<void> => {
    while (answers.size < count) {
      changed = Promise.withResolvers();
      await changed.promise;
    }
  };
  return { nat, syn, answers, answered };
}

test('a guest has a limit of connections, others are not affected, and all are gone with the guest', {
  timeout: 60_000,
}, async () => {
  const server = createServer((socket) => socket.on('error', () => undefined)).listen(0, '127.0.0.1', 2048);
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const { nat, syn, answers, answered } = lab();
  const [limit, more] = [1024, 6];
  for (let i = 0; i < limit + more; i++) syn(10_000 + i, address.port, 1);
  await answered(limit + more);
  const refused = [...answers.values()].filter((flags) => (flags & RST) !== 0);
  expect([refused.length, nat.tcp.count]).toEqual([more, limit]);
  syn(9000, address.port, 2);
  await answered(limit + more + 1);
  expect(answers.get(9000)! & RST).toBe(0);
  nat.forget(1);
  expect([nat.tcp.count, nat.tcp.budget.used]).toEqual([1, 0]);
  nat.forget(2);
  expect(nat.tcp.count).toBe(0);
});

test('a guest’s UDP has a limit of ports, the oldest of which makes way', async () => {
  const { nat } = lab();
  const frame = new FrameBuffer();
  for (let port = 1; port <= 520; port++) {
    const datagram = Buffer.from([port >> 8, port & 255, 0, 9, 0, 9, 0, 0, 1]);
    const payload = buildIpv4({ source: GUEST, destination: GATEWAY, protocol: 17, payload: datagram });
    const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
    frame.set(buildEthernet({ destination: mac, source: mac, type: ETHERTYPE_IPV4, payload }));
    nat.receive(frame, 1);
  }
  expect(nat.udp.count).toBe(512);
  nat.forget(1);
  expect(nat.udp.count).toBe(0);
});
