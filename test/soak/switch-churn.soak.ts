/** Ten thousand joins and leaves, by rings and by uml_switch's protocol, leave no descriptor, no port and no memory behind. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { BROADCAST, labSwitch, plugIn } from '../../src/switchd/testing/fake-guest.ts';
import { UmlClient } from '../../src/switchd/testing/uml-client.ts';

const ROUNDS = 10_000;
const WARM_UP = 500;
const TIMEOUT_MS = 600_000;
/** 64 KiB for each: room for what garbage collection has not yet taken of rings, of which one port's are 1 MiB. */
const GROWTH_BYTES_MAX = ROUNDS * 64 * 1024;

const descriptors = (): number => readdirSync('/proc/self/fd').length;

async function churn(step: (round: number) => Promise<void>): Promise<void> {
  for (let round = 0; round < WARM_UP; round++) await step(round);
  const [before, memory] = [descriptors(), process.memoryUsage.rss()];
  for (let round = 0; round < ROUNDS; round++) await step(round);
  // Handles are closed a little later than their promises resolve.
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(descriptors()).toBeLessThanOrEqual(before + 2);
  expect(process.memoryUsage.rss() - memory).toBeLessThan(GROWTH_BYTES_MAX);
}

test('VMs come and go', { timeout: TIMEOUT_MS }, async () => {
  const handle = await labSwitch();
  onTestFinished(() => handle.close());
  const stays = await plugIn(handle, 1);
  await churn(async (round) => {
    const settings = { protection: {}, addresses: ['10.77.0.50'], metadata: { a: 'b' } };
    const guest = await plugIn(handle, 2, 'net', settings);
    guest.say(BROADCAST, `round ${round}`);
    guest.nic.close();
    await guest.attachment.detach();
    stays.inbox.length = 0;
  });
  expect((await handle.ports('net')).map(({ id }) => id)).toEqual(['gateway', 'port-1']);
  expect((await handle.macTable('net')).filter(({ portId }) => portId === '')).toEqual([]);
});

test('clients of the control socket come and go', { timeout: TIMEOUT_MS }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'umlaut-churn-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const handle = await labSwitch();
  onTestFinished(() => handle.close());
  const umlSocket = join(folder, 'ctl');
  await handle.createNetwork({ id: 'uml', name: 'uml', subnet: '10.9.0.0/24', umlSocket });
  await churn(async (round) => {
    const client = await UmlClient.join(umlSocket);
    client.send(
      Buffer.from(`ffffffffffff0200000000${(round & 255).toString(16).padStart(2, '0')}88b5`, 'hex'),
    );
    await client.die();
  });
  const client = await UmlClient.join(umlSocket);
  await client.die();
  expect((await handle.ports('uml')).map(({ id }) => id)).toEqual(['gateway', 'uml']);
});
