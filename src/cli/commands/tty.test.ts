import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { encodeTtyRecord, ttyNumber } from '../../uml/tty-log.ts';
import { runCli } from '../program.ts';

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) fs.rmSync(folder, { recursive: true });
});

function file(content: string | Uint8Array): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-tty-'));
  folders.push(folder);
  fs.writeFileSync(path.join(folder, 'log'), content);
  return path.join(folder, 'log');
}

async function umlaut(...args: string[]) {
  let [stdout, stderr] = ['', ''];
  const io = {
    stdout: { write: (text: string) => (stdout += text) },
    stderr: { write: (text: string) => (stderr += text) },
    env: {},
    exitCode: 0,
  };
  return { status: await runCli(args, io), stdout, stderr };
}

const record = (console: string, direction: number, text: string): Uint8Array =>
  encodeTtyRecord({ operation: 3, tty: ttyNumber(console), direction, time: 1000, data: Buffer.from(text) });

test('a log is played: what was shown, of one console, and what was typed if that is wanted', async () => {
  const log = file(
    Buffer.concat([
      record('ttyS0', 2, '# '),
      record('ttyS0', 1, 'ls\r'),
      record('hvc0', 2, 'x'),
      record('ttyS0', 2, 'bin\r\n'),
    ]),
  );
  expect((await umlaut('tty', 'play', '-n', log)).stdout).toBe('# bin\r\n');
  expect((await umlaut('tty', 'play', '-n', '-a', log)).stdout).toBe('# ls\rbin\r\n');
  expect((await umlaut('tty', 'play', '--speed', '1000', '--console', 'hvc0', log)).stdout).toBe('x');
  const missing = await umlaut('tty', 'play', '--console', 'hvc9', log);
  expect(missing.status).toBe(3);
  expect(missing.stderr).toContain('use one of ttyS0, hvc0');
});

test('an asciicast is played, at its pace or faster', async () => {
  const cast = file(
    '{"version": 2, "width": 80, "height": 24}\n[0.0, "o", "a"]\n[900.0, "o", "b"]\n[900.1, "i", "c"]\n',
  );
  expect((await umlaut('tty', 'play', '--idle', '0.01', cast)).stdout).toBe('ab');
});

test('another file is no recording', async () => {
  const { status, stderr } = await umlaut(
    'tty',
    'play',
    file('#!/bin/sh\necho not a recording, whatever it may be\n'),
  );
  expect(status).toBe(2);
  expect(stderr).toContain('no log of terminals');
});
