/** What the tests of disks share. */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { onTestFinished } from 'vitest';
import { requireTool, skipTest } from './tools.ts';

/** A folder that is removed when the test ends. */
export function scratchFolder(): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-test-'));
  onTestFinished(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** As scratchFolder, in memory where the host has that: nothing there has to outlive a power cut. */
export function memoryFolder(): string {
  if (!fs.existsSync('/dev/shm')) return scratchFolder();
  const folder = fs.mkdtempSync('/dev/shm/umlaut-test-');
  onTestFinished(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** xorshift32: the same numbers in every run. `random(n)` is below n. */
export function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Bytes that tell which write they are from. */
export function pattern(length: number, seed: number): Uint8Array {
  const random = randomNumbers(seed + 1);
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at++) bytes[at] = random(256);
  return bytes;
}

/** The same bytes as several pieces of odd sizes, as a guest's descriptors are. */
export function inPieces(bytes: Uint8Array, random: (below: number) => number): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Math.min(bytes.length - at, 1 + random(9000));
    pieces.push(bytes.subarray(at, at + length));
    at += length;
  }
  return pieces;
}

/** A tmpfs of the given size at `folder`, until the test ends; needs root, without which the test is skipped. */
export function smallFileSystem(size: string, folder = scratchFolder()): string {
  if (process.getuid?.() !== 0) skipTest('only root can mount a small file system');
  const mount = requireTool('mount', 'mount');
  try {
    execFileSync(mount, ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder], { stdio: 'pipe' });
  } catch {
    skipTest('this environment does not allow to mount');
  }
  onTestFinished(() => {
    execFileSync('umount', ['-l', folder]);
  });
  return folder;
}

/** Gives a small file system another size. */
export function resizeFileSystem(folder: string, size: string): void {
  execFileSync('mount', ['-o', `remount,size=${size}`, folder], { stdio: 'pipe' });
}
