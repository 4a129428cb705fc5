import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { requireTool, skipTest } from '../../../test/support/tools.ts';
import { UmlSwitch } from './control-server.ts';
import { openTap } from './libc.ts';

const PROBE = fileURLToPath(new URL('../testing/tap-probe.ts', import.meta.url));
const DEVICE = 'umlaut0';

test('a TAP device is a port', () => {
  const unshare = requireTool('unshare', 'util-linux');
  requireTool('ip', 'iproute2');
  const prepared = spawnSync(unshare, ['-rn', 'ip', 'tuntap', 'add', 'dev', DEVICE, 'mode', 'tap']);
  if (prepared.status !== 0) skipTest('no network namespace with a TAP device may be made here');
  const folder = mkdtempSync(join(tmpdir(), 'umlaut-tap-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const args = ['-rn', process.execPath, PROBE, join(folder, 'ctl'), DEVICE];
  const { stdout, stderr } = spawnSync(unshare, args, { encoding: 'utf8', timeout: 20_000 });
  expect(stderr).toBe('');
  expect(stdout).toBe('answer from 0a080001\n');
});

test('a device that cannot be opened is an error that names it, and leaves no socket', async () => {
  expect(() => openTap('a-name-that-is-too-long')).toThrow(RangeError);
  const onError = (error: Error): never => {
    throw error;
  };
  const path = join(tmpdir(), `umlaut-tap-${process.pid}.ctl`);
  const made = UmlSwitch.start({ path, taps: ['a-name-that-is-too-long'], onError });
  await expect(made).rejects.toMatchObject({ code: 'invalid_input', field: 'tap' });
});
