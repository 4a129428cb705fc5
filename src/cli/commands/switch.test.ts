import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { switchArguments } from './switch.ts';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));

test('takes the options of uml_switch', () => {
  const defaults = { path: '/tmp/uml.ctl', hub: false, taps: [], daemon: false };
  expect(switchArguments([])).toEqual(defaults);
  expect(switchArguments(['-hub', '-unix', '/x', '-tap', 't0', '-daemon'])).toEqual({
    path: '/x',
    hub: true,
    taps: ['t0'],
    daemon: true,
  });
  for (const wrong of [['-bogus'], ['-unix'], ['-tap', ''], ['file'], ['-compat-v0']]) {
    expect(() => switchArguments(wrong)).toThrow(expect.objectContaining({ code: 'invalid_input' }));
  }
});

test.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)('says that it runs, and removes its socket at %s', async (signal, status) => {
  const folder = mkdtempSync(join(tmpdir(), 'umlaut-switch-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'ctl');
  const child = spawn(process.execPath, [MAIN, 'switch', '-unix', path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [said] = (await once(child.stdout, 'data')) as [Uint8Array];
  expect(Buffer.from(said).toString()).toBe(`uml_switch attached to unix socket '${path}'\n`);
  expect(existsSync(path)).toBe(true);
  child.kill(signal);
  expect(await once(child, 'exit')).toEqual([status, null]);
  expect(existsSync(path)).toBe(false);
});
