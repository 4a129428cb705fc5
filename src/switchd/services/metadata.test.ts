/** The metadata service, asked over TCP by a guest that speaks it byte by byte. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { SwitchHandle } from '../index.ts';
import { BROADCAST, bytesOf, type FakeGuest, labSwitch, plugIn } from '../testing/fake-guest.ts';
import { ethernet } from '../testing/packets.ts';
import { internetChecksum } from '../wire/checksum.ts';
import { parseIp } from '../wire/address.ts';
import { ARP_REQUEST, buildArp, parseArp } from '../wire/arp.ts';
import { buildIpv4, parseIpv4 } from '../wire/ipv4.ts';
import { answer } from './metadata.ts';

const DOCUMENTS = {
  'latest/meta-data/instance-id': 'vm-1',
  'latest/meta-data/public-keys/': '0=key-0',
  'latest/meta-data/public-keys/0/openssh-key': 'ssh-ed25519 AAAA me',
  'latest/user-data': `#!/bin/sh\n${'echo hello\n'.repeat(2000)}`,
  'openstack/latest/meta_data.json': '{}',
};

describe('paths', () => {
  test.each<[method: string, url: string, status: number, body: string]>([
    ['GET', '/latest/meta-data/instance-id', 200, 'vm-1'],
    ['GET', '/2009-04-04/meta-data/instance-id', 200, 'vm-1'],
    ['GET', '/1.0//meta-data/instance-id?x=1', 200, 'vm-1'],
    ['GET', '/latest/meta-data/', 200, 'instance-id\npublic-keys/'],
    ['GET', '/latest/meta-data', 200, 'instance-id\npublic-keys/'],
    ['GET', '/latest/meta-data/public-keys/', 200, '0=key-0'],
    ['GET', '/latest/meta-data/public-keys/0', 200, 'openssh-key'],
    [
      'GET',
      '/latest/meta-data/public-keys/0/openssh-key',
      200,
      DOCUMENTS['latest/meta-data/public-keys/0/openssh-key'],
    ],
    ['GET', '/openstack/2018-08-27/meta_data.json', 200, '{}'],
    ['GET', '/', 200, 'latest/\nopenstack/'],
    ['GET', '/latest/nothing', 404, ''],
    ['GET', '/latest/meta-dat', 404, ''],
    ['GET', '/__proto__/x', 404, ''],
    ['PUT', '/latest/api/token', 200, 'umlaut'],
    ['POST', '/latest/user-data', 405, ''],
  ])('%s %s', (method, url, status, body) => {
    expect(answer(method, url, DOCUMENTS)).toEqual({ status, body });
  });
});

const SERVICE = '169.254.169.254';
const [SYN, ACK, FIN, PSH] = [2, 16, 1, 8];

/** One connection of a guest's, in order and without losses. */
class Client {
  readonly #guest: FakeGuest;
  readonly #from: string;
  readonly #to: string;
  readonly #port: number;
  #next = 1000;
  #acknowledged = 0;

  constructor(guest: FakeGuest, from: string, toMac: string, port: number) {
    this.#guest = guest;
    this.#from = from;
    this.#to = toMac;
    this.#port = port;
  }

  send(flags: number, payload: Uint8Array = new Uint8Array(0)): void {
    const tcp = Buffer.alloc(20 + payload.length);
    tcp.writeUInt16BE(this.#port, 0);
    tcp.writeUInt16BE(80, 2);
    tcp.writeUInt32BE(this.#next, 4);
    tcp.writeUInt32BE(this.#acknowledged, 8);
    tcp.writeUInt16BE((5 << 12) | flags, 12);
    tcp.writeUInt16BE(0xffff, 14);
    tcp.set(payload, 20);
    const [source, destination] = [parseIp(this.#from)!, parseIp(SERVICE)!];
    const words = (ip: number): number => (ip >>> 16) + (ip & 0xffff);
    tcp.writeUInt16BE(internetChecksum(tcp, words(source) + words(destination) + 6 + tcp.length), 16);
    const packet = buildIpv4({ source, destination, protocol: 6, payload: tcp });
    this.#guest.nic.send([ethernet(this.#to, this.#guest.mac, 0x0800, packet)]);
    this.#next += payload.length + ((flags & (SYN | FIN)) === 0 ? 0 : 1);
  }

  /** The next segment for this connection. */
  async receive(): Promise<{ flags: number; data: Buffer }> {
    const tcpOf = (frame: Uint8Array): Buffer | undefined => {
      const packet = frame[12] === 8 && frame[13] === 0 ? parseIpv4(frame.subarray(14)) : undefined;
      const tcp = packet?.protocol === 6 ? Buffer.from(packet.payload) : undefined;
      return tcp?.readUInt16BE(2) === this.#port ? tcp : undefined;
    };
    const tcp = tcpOf(await this.#guest.take((frame) => tcpOf(frame) !== undefined))!;
    const flags = tcp[13]!;
    const data = tcp.subarray((tcp[12]! >> 4) * 4);
    this.#acknowledged = (tcp.readUInt32BE(4) + data.length + ((flags & (SYN | FIN)) === 0 ? 0 : 1)) >>> 0;
    return { flags, data };
  }
}

async function get(guest: FakeGuest, from: string, mac: string, path: string, port: number): Promise<string> {
  const client = new Client(guest, from, mac, port);
  client.send(SYN);
  expect((await client.receive()).flags).toBe(SYN | ACK);
  client.send(ACK);
  client.send(
    ACK | PSH,
    Buffer.from(`GET ${path} HTTP/1.1\r\nHost: ${SERVICE}\r\nConnection: close\r\n\r\n`),
  );
  let text = '';
  for (;;) {
    const { flags, data } = await client.receive();
    text += data.toString('latin1');
    client.send(ACK);
    if ((flags & FIN) !== 0) break;
  }
  client.send(FIN | ACK);
  return text;
}

describe('over the network', () => {
  let handle: SwitchHandle;
  let gatewayMac: string;
  beforeEach(async () => {
    handle = await labSwitch();
    gatewayMac = (await handle.ports('net')).find(({ id }) => id === 'gateway')!.mac;
  });
  afterEach(() => handle.close());

  test('each guest gets its own documents, whole, by its gateway or on the link', async () => {
    const settings = { protection: {}, metadata: DOCUMENTS };
    const a = await plugIn(handle, 1, 'net', { ...settings, addresses: ['10.77.0.50'] });
    const other = { 'latest/meta-data/instance-id': 'vm-2' };
    const b = await plugIn(handle, 2, 'net', { ...settings, addresses: ['10.77.0.51'], metadata: other });
    const request = { operation: ARP_REQUEST, senderMac: bytesOf(a.mac), senderIp: parseIp('10.77.0.50')! };
    const arp = buildArp({ ...request, targetMac: new Uint8Array(6), targetIp: parseIp(SERVICE)! });
    a.nic.send([ethernet(BROADCAST, a.mac, 0x0806, arp)]);
    const reply = parseArp((await a.take((frame) => frame[13] === 6)).subarray(14));
    expect(Buffer.from(reply!.senderMac)).toEqual(Buffer.from(bytesOf(gatewayMac)));
    const id = '/latest/meta-data/instance-id';
    expect(await get(a, '10.77.0.50', gatewayMac, id, 5000)).toMatch(
      /^HTTP\/1\.1 200 OK\r\n.*\r\n\r\nvm-1$/s,
    );
    expect(await get(b, '10.77.0.51', gatewayMac, id, 5000)).toMatch(/\r\n\r\nvm-2$/);
    const long = await get(a, '10.77.0.50', gatewayMac, '/latest/user-data', 5001);
    expect(long.split('\r\n\r\n')[1]).toBe(DOCUMENTS['latest/user-data']);
    expect(await get(b, '10.77.0.51', gatewayMac, '/latest/user-data', 5001)).toMatch(/^HTTP\/1\.1 404/);
    await handle.configurePort('net', 'port-2', { ...settings, addresses: ['10.77.0.51'] });
    expect(await get(b, '10.77.0.51', gatewayMac, id, 5002)).toMatch(/\r\n\r\nvm-1$/);
  });

  test('other ports are refused, and so is who has no documents', async () => {
    const guest = await plugIn(handle, 3);
    const client = new Client(guest, '10.77.0.60', gatewayMac, 6000);
    client.send(SYN);
    expect((await client.receive()).flags & 4).toBe(4);
  });
});
