import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { expect, it } from 'vitest';
import { scratchFolder } from '../../test/support/storage.ts';
import { requireTool } from '../../test/support/tools.ts';
import { type CpioEntry, cpioArchive } from './cpio.ts';

const ENTRIES: readonly CpioEntry[] = [
  { kind: 'folder', path: 'bin' },
  { kind: 'file', path: 'bin/tool', content: Buffer.from('hello'), executable: true },
  { kind: 'file', path: 'data', content: new Uint8Array(4096).fill(7), executable: false },
  { kind: 'link', path: 'bin/sh', target: 'tool' },
];

it('writes a newc record with every field aligned to 4 bytes', () => {
  const archive = cpioArchive([{ kind: 'file', path: 'a', content: Buffer.from('xyz'), executable: false }]);
  expect(archive.toString('latin1', 0, 14)).toBe('07070100000001');
  expect(archive.toString('latin1', 14, 22)).toBe('000081a4');
  expect(archive.toString('latin1', 54, 62)).toBe('00000003');
  expect(archive.toString('latin1', 94, 102)).toBe('00000002');
  expect(archive.toString('latin1', 110, 112)).toBe('a\0');
  expect(archive.toString('latin1', 112, 116)).toBe('xyz\0');
  expect(archive.toString('latin1', 116, 122)).toBe('070701');
  expect(archive.length % 4).toBe(0);
  expect(archive.includes('TRAILER!!!\0')).toBe(true);
});

it('is unpacked by cpio', () => {
  const cpio = requireTool('cpio', 'cpio');
  const cwd = scratchFolder();
  execFileSync(cpio, ['-i', '--quiet', '--no-preserve-owner'], { cwd, input: cpioArchive(ENTRIES) });
  expect(fs.readFileSync(path.join(cwd, 'bin/tool'), 'utf8')).toBe('hello');
  expect(fs.statSync(path.join(cwd, 'bin/tool')).mode & 0o777).toBe(0o755);
  expect(fs.readFileSync(path.join(cwd, 'data')).equals(Buffer.alloc(4096, 7))).toBe(true);
  expect(fs.readlinkSync(path.join(cwd, 'bin/sh'))).toBe('tool');
});
