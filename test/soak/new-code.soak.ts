/** A guest that makes ever-new code does not make the emulator grow. UMLAUT_SOAK_MINUTES says for how long (10). */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { cpioArchive, type CpioEntry } from '../../src/images/cpio.ts';
import { debianGuest } from '../support/debian-guest.ts';
import { requireTool } from '../support/tools.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MINUTES = Number(process.env.UMLAUT_SOAK_MINUTES ?? 10);
const GROWTH_MAX_MIB = 16;
const MEMORY_MIB = 128;

const residentMib = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))![1]) / 1024;

const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1]!;

/** /init is the program itself. */
function initrd(folder: string): string {
  const program = join(folder, 'new-code');
  const gcc = requireTool('gcc', 'gcc');
  const source = fileURLToPath(new URL('new-code.c', import.meta.url));
  const built = spawnSync(gcc, ['-O2', '-static', '-o', program, source], { encoding: 'utf8' });
  expect(built.status, built.stderr).toBe(0);
  const entries: CpioEntry[] = [
    { kind: 'folder', path: 'dev' },
    { kind: 'file', path: 'init', content: readFileSync(program), executable: true },
  ];
  const file = join(folder, 'initrd');
  writeFileSync(file, cpioArchive(entries));
  return file;
}

test('ever-new code', { timeout: MINUTES * 60_000 + 600_000 }, async () => {
  const { kernel } = await debianGuest(() => {});
  const folder = mkdtempSync(join(tmpdir(), 'umlaut-soak-'));
  const boot = ['boot', '--kernel', kernel, '--initrd', initrd(folder), '--memory', `${MEMORY_MIB}M`];
  const launcher = join(ROOT, 'bin/umlaut.mjs');
  const child = spawn(process.execPath, [launcher, ...boot, '--append', 'console=ttyS0 quiet panic=-1'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  const samples: number[] = [];
  try {
    const end = performance.now() + MINUTES * 60_000;
    for await (const chunk of child.stdout.setEncoding('latin1')) {
      if (String(chunk).includes('ROUND')) samples.push(residentMib(child.pid!));
      if (performance.now() >= end) break;
    }
  } finally {
    child.kill('SIGKILL');
    await ended;
    rmSync(folder, { recursive: true });
  }
  expect(samples.length).toBeGreaterThan(12);
  const quarter = Math.floor(samples.length / 4);
  const [early, late] = [median(samples.slice(quarter, 2 * quarter)), median(samples.slice(-quarter))];
  console.log(`${samples.length} samples: ${early.toFixed(0)} MiB early, ${late.toFixed(0)} MiB late`);
  expect(late - early).toBeLessThan(GROWTH_MAX_MIB);
});
