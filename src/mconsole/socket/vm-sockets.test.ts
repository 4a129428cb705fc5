import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import type { LoggedEvent, Services } from '../../vmm/index.ts';
import { VmSockets } from './vm-sockets.ts';

/** What the sockets use of the daemon's services: a name for any VM, and events that the test makes. */
function daemon(): { services: Services; state: (vmId: string, state: string) => void } {
  const listeners = new Set<(logged: LoggedEvent) => void>();
  const services = {
    events: {
      subscribe: (listener: (logged: LoggedEvent) => void) => {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    },
    vms: { find: (_who: unknown, vmId: string) => ({ name: vmId }) },
  } as unknown as Services;
  const state = (vmId: string, to: string): void => {
    const resource = { type: 'vm', id: vmId };
    const event = { type: 'vm.state', resource, data: { state: to } };
    for (const listener of listeners) listener({ tenant: null, event } as unknown as LoggedEvent);
  };
  return { services, state };
}

function setUp() {
  const umlDir = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-vm-sockets-'));
  onTestFinished(() => fs.rmSync(umlDir, { recursive: true, force: true }));
  const warnings: unknown[][] = [];
  const warn = (...args: unknown[]): void => void warnings.push(args);
  const log = { error: warn, warn, info: () => undefined, debug: () => undefined };
  const { services, state } = daemon();
  const sockets = new VmSockets({ services, umlDir, log });
  onTestFinished(() => sockets.close());
  return { umlDir, warnings, state, sockets };
}

it('nothing stays of VMs that end while their sockets come up', async () => {
  const { umlDir, warnings, state, sockets } = setUp();
  for (let round = 0; round < 100; round++) {
    for (let vm = 0; vm < 10; vm++) state(`vm${vm}`, 'running');
    // Some of the sockets are there by now, some are not.
    if (round % 3 !== 0) await new Promise(setImmediate);
    for (let vm = 0; vm < 10; vm++) state(`vm${vm}`, round % 2 === 0 ? 'halted' : 'failed');
    await new Promise(setImmediate);
  }
  await sockets.close();
  expect(warnings).toEqual([]);
  expect(fs.readdirSync(umlDir)).toEqual([]);
});

it('a VM that starts again while its socket comes up keeps it', async () => {
  const { umlDir, warnings, state } = setUp();
  state('web', 'running');
  state('web', 'halted');
  state('web', 'running');
  await expect.poll(() => fs.readdirSync(path.join(umlDir, 'web')).sort()).toEqual(['mconsole', 'pid']);
  state('web', 'halted');
  await expect.poll(() => fs.readdirSync(umlDir)).toEqual([]);
  expect(warnings).toEqual([]);
});
