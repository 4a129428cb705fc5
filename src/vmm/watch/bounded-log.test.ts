import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { text } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import { BoundedLog, readBounded, streamBounded } from './bounded-log.ts';

function file(): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-log-'));
  onTestFinished(() => fs.rmSync(folder, { recursive: true }));
  return path.join(folder, 'log');
}

const line = (n: number): Buffer => Buffer.from(`line ${String(n).padStart(4, '0')}\n`);

test('the newest is kept, in whole pieces, within its space', async () => {
  const log = file();
  const written = new BoundedLog(log, 400);
  for (let n = 0; n < 500; n++) written.append(line(n));
  written.close();
  const kept = readBounded(log).toString();
  expect(kept.length).toBeLessThanOrEqual(400);
  expect(kept.length).toBeGreaterThan(150);
  expect(kept.endsWith('line 0499\n')).toBe(true);
  expect(kept).toMatch(/^(line \d{4}\n)+$/);
  expect(await text(streamBounded(log))).toBe(kept);
});

test('it goes on where it was, and there is nothing where nothing was written', async () => {
  const log = file();
  expect(readBounded(log)).toHaveLength(0);
  expect(await text(streamBounded(log))).toBe('');
  for (let n = 0; n < 3; n++) {
    const opened = new BoundedLog(log, 1000);
    opened.append(line(n));
    opened.close();
  }
  expect(readBounded(log).toString()).toBe('line 0000\nline 0001\nline 0002\n');
});
