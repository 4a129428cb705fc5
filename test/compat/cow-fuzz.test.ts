/** Copy-on-write files whose headers are anything: whatever takes them ends with an error, or with what is in their folder. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { expect, it } from 'vitest';
import { AppError } from '../../src/contracts/errors.ts';
import {
  createCow,
  detectFormat,
  inspectCow,
  mergeCow,
  openDisk,
  shrinkDiskFile,
} from '../../src/storage/index.ts';
import { findChain } from '../../src/storage/layers/chain.ts';
import { pattern, randomNumbers, scratchFolder } from '../support/storage.ts';

const SIZE = 64 * 1024;
const ROUNDS = 200;
/** Where a header has its fields, and the beginning of its path. */
const FIELDS = 64;
const VALUES = [0, 1, 0x0f, 0x7f, 0x80, 0xff];

async function readAll(file: string, cow: string): Promise<void> {
  const disk = openDisk({ device: 'ubd0', file, cow, readOnly: true });
  try {
    const { sizeBytes } = disk;
    expect(sizeBytes).toBe(SIZE);
    await disk.read(0, [new Uint8Array(sizeBytes)]);
  } finally {
    await disk.close();
  }
}

async function writeOne(file: string, cow: string): Promise<void> {
  const disk = openDisk({ device: 'ubd0', file, cow, readOnly: false });
  try {
    await disk.write(4096, [new Uint8Array(512).fill(1)]);
    await disk.flush();
  } finally {
    await disk.close();
  }
}

it('headers with anything in them are an error of the catalogue, and nothing else is written', async () => {
  const folder = scratchFolder();
  const at = (name: string): string => path.join(folder, name);
  const [base, good, cow] = [at('base'), at('good'), at('cow')];
  const content = pattern(SIZE, 3);
  fs.writeFileSync(base, content);
  createCow(good, base);
  const whole = fs.readFileSync(good);
  const random = randomNumbers(20_261_124);
  const before = fs.statSync(base, { bigint: true }).mtimeNs;
  let refused = 0;
  let taken = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const bytes = Buffer.from(whole);
    for (let change = 0; change <= random(3); change++)
      bytes[random(FIELDS)] = VALUES[random(VALUES.length)]!;
    const length = random(6) === 0 ? random(bytes.length) : bytes.length;
    const uses: (() => unknown)[] = [
      () => detectFormat(cow),
      () => inspectCow(cow),
      () => findChain(cow),
      () => readAll(base, cow),
      () => mergeCow(cow, at('merged')),
      () => shrinkDiskFile(cow),
      () => writeOne(base, cow),
    ];
    for (const use of uses) {
      fs.writeFileSync(cow, bytes.subarray(0, length));
      try {
        await use();
        taken++;
      } catch (error) {
        if (!(error instanceof AppError)) throw error;
        expect(error.code, error.message).not.toBe('internal');
        refused++;
      }
    }
    expect(fs.statSync(cow).size).toBeLessThan(1 << 30);
  }
  expect(fs.statSync(base, { bigint: true }).mtimeNs).toBe(before);
  expect(fs.readdirSync(folder).sort()).toEqual(['base', 'cow', 'good', 'merged']);
  expect(refused).toBeGreaterThan(300);
  expect(taken).toBeGreaterThan(150);
}, 120_000);
