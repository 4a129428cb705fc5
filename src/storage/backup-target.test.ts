import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { scratchFolder } from '../../test/support/storage.ts';
import { BackupTarget } from './backup-target.ts';

const MIB = 1 << 20;
/** More than is left to be made durable in the end. */
const PIECES = 130;

const openFiles = (folder: string): string[] =>
  fs
    .readdirSync('/proc/self/fd')
    .flatMap((fd) => {
      try {
        return fs.readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return [];
      }
    })
    .filter((name) => name.startsWith(folder));

async function fill(target: BackupTarget, piece: Uint8Array): Promise<void> {
  for (let at = 0; at < PIECES; at++) await target.write(at * MIB, piece);
}

describe('a file that a large disk is copied to', () => {
  it('is there as a whole in the end, and shorter in fact where there are zeros', async () => {
    const file = path.join(scratchFolder(), 'disk');
    const piece = new Uint8Array(MIB).fill(7, 0, MIB / 2);
    const target = new BackupTarget(file, PIECES * MIB);
    await fill(target, piece);
    expect(fs.existsSync(file)).toBe(false);
    await target.complete();
    target.publish();
    const { size, blocks } = fs.statSync(file);
    expect(size).toBe(PIECES * MIB);
    expect(blocks * 512).toBeLessThan(size * 0.6);
    const content = fs.readFileSync(file);
    for (let at = 0; at < PIECES; at++) {
      expect(content.subarray(at * MIB, (at + 1) * MIB).equals(piece)).toBe(true);
    }
  });

  it('is gone when it is given up, also while it is being made durable', async () => {
    const folder = scratchFolder();
    const target = new BackupTarget(path.join(folder, 'disk'), PIECES * MIB);
    await fill(target, new Uint8Array(MIB).fill(1));
    target.discard();
    expect(fs.readdirSync(folder)).toEqual([]);
    await vi.waitFor(() => expect(openFiles(folder)).toEqual([]), 30_000);
  });
});
