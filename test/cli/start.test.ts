/** What `npm start` says when it cannot start. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Home } from '../../src/vmm/index.ts';

const SCRIPT = fileURLToPath(new URL('../../scripts/start.ts', import.meta.url));

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'umlaut-start-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function start(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [SCRIPT, '--home', join(folder, 'home'), ...args], {
    encoding: 'utf8',
    env: { ...process.env, NODE_NO_WARNINGS: '1' },
  });
}

it('names the port that is in use and what to do', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number }; // INVARIANT: it listens on TCP
  const { status, stdout, stderr } = start('--port', String(port));
  server.close();
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  expect(stderr).toContain(`error: port ${port} of 127.0.0.1 is in use`);
  expect(stderr).toContain('remedy: ');
  expect(stderr).not.toContain('    at ');
});

it('names the pid of the daemon that has the state folder', () => {
  const home = new Home(join(folder, 'home'));
  const { status, stderr } = start('--port', '0');
  home.release();
  expect(status).toBe(1);
  expect(stderr).toContain(`is in use by the daemon with pid ${process.pid}`);
});

it('refuses a port that is none before it makes anything', () => {
  const { status, stderr } = start('--port', 'high');
  expect(status).toBe(1);
  expect(stderr).toContain('UMLAUT_PORT is "high"');
  expect(existsSync(join(folder, 'home'))).toBe(false);
});
