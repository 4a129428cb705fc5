import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type SwitchHandle, startSwitch } from '../index.ts';
import { BROADCAST, bytesOf, FakeGuest, TEST_ETHERTYPE } from '../testing/fake-guest.ts';
import { UmlClient } from '../testing/uml-client.ts';
import { buildEthernet } from '../wire/ethernet.ts';

const UML_MAC = '02:00:00:00:00:77';
const VM_MAC = '02:00:00:00:00:01';
let folder: string;
let umlSocket: string;
let handle: SwitchHandle;
let guest: FakeGuest;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'umlaut-net-'));
  umlSocket = join(folder, 'lab.ctl');
  handle = await startSwitch({
    onError: (error) => {
      throw error;
    },
  });
  await handle.createNetwork({ id: 'net', name: 'lab', subnet: '10.77.0.0/24', umlSocket });
  const mac = VM_MAC;
  guest = new FakeGuest(mac, await handle.attach({ networkId: 'net', portId: 'vm', name: 'vm', mac }));
});
afterEach(async () => {
  await handle.close();
  rmSync(folder, { recursive: true });
});

function frame(to: string, text: string): Uint8Array {
  const payload = Buffer.from(text);
  return buildEthernet({ destination: bytesOf(to), source: bytesOf(UML_MAC), type: TEST_ETHERTYPE, payload });
}

const text = (bytes: Uint8Array | undefined): string | undefined =>
  bytes && Buffer.from(bytes.subarray(14)).toString();

test('a client of the control socket and a VM talk, both ways', async () => {
  expect(statSync(umlSocket).mode & 0o777).toBe(0o600);
  const client = await UmlClient.join(umlSocket);
  const other = await UmlClient.join(umlSocket);
  client.send(frame(BROADCAST, 'from uml'));
  await guest.hear('from uml');
  expect(text(other.receive())).toBe('from uml');
  guest.say(UML_MAC, 'from the vm');
  expect(text(client.receive())).toBe('from the vm');
  guest.say(BROADCAST, 'to all');
  expect([text(client.receive()), text(other.receive())]).toEqual(['to all', 'to all']);
  const macs = await handle.macTable('net');
  expect(macs).toContainEqual(expect.objectContaining({ mac: UML_MAC, portId: 'uml' }));
  await client.die();
  await other.die();
});

test('the control socket goes with its network, and a path that is taken makes no network', async () => {
  const second = { id: 'two', name: 'two', subnet: '10.78.0.0/24', umlSocket };
  await expect(handle.createNetwork(second)).rejects.toMatchObject({ code: 'already_exists' });
  await expect(handle.ports('two')).rejects.toMatchObject({ code: 'not_found' });
  await guest.attachment.detach();
  await handle.deleteNetwork('net');
  expect(existsSync(umlSocket)).toBe(false);
  await handle.createNetwork(second);
  expect(existsSync(umlSocket)).toBe(true);
  await handle.close();
  expect(existsSync(umlSocket)).toBe(false);
});
