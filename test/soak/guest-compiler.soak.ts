/**
 * A guest of Debian compiles a C program and runs it, with everything interpreted, everything compiled, by default, with a
 * small TLB and with room for little compiled code. What it prints is the same each time, and the same as on this machine.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { debianGuest, debianInitrd } from '../support/debian-guest.ts';
import { requireTool } from '../support/tools.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TIMEOUT_MS = 3_600_000;

const SETTINGS: Readonly<Record<string, readonly string[]>> = {
  default: [],
  interpreter: ['--no-jit'],
  'everything compiled': ['--jit-threshold', '1'],
  'small TLB': ['--tlb-entries', '16'],
  'room for little compiled code': ['--jit-code', '256K'],
};

const PROGRAM = `
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int by_value(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
int main(void) {
  unsigned long hash = 14695981039346656037ul;
  double sum = 0;
  static int list[20000];
  for (int i = 0; i < 20000; i++) list[i] = (int)((i * 2654435761u) >> 8);
  qsort(list, 20000, sizeof *list, by_value);
  for (int i = 0; i < 20000; i++) {
    hash = (hash ^ (unsigned)list[i]) * 1099511628211ul;
    sum += sqrt(i) / (1 + list[i] % 7);
  }
  char text[64];
  snprintf(text, sizeof text, "%.9f", sum);
  printf("RESULT %lx %s %zu\\n", hash, text, strlen(text));
  return 0;
}
`;
const COMMANDS = 'gcc -O2 -o program program.c -lm && ./program; sha256sum program | cut -c1-64';

/** What the commands print on the bare processor, in the guest's own files. */
function expected(root: string): string[] {
  const folder = mkdtempSync(join(root, 'tmp/soak-'));
  try {
    writeFileSync(join(folder, 'program.c'), PROGRAM);
    const script = `cd ${folder.slice(root.length)}; export PATH=/usr/bin LC_ALL=C; ${COMMANDS}`;
    return spawnSync('chroot', [root, '/bin/sh', '-c', script], { encoding: 'utf8' })
      .stdout.trim()
      .split('\n');
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test.each(Object.entries(SETTINGS))('%s', { timeout: TIMEOUT_MS }, async (name, options) => {
  requireTool('dpkg-deb', 'dpkg');
  const guest = await debianGuest(() => {});
  const initrd = await debianInitrd(guest, 'compiler', COMMANDS, { 'program.c': Buffer.from(PROGRAM) });
  const folder = mkdtempSync(join(tmpdir(), 'umlaut-soak-'));
  try {
    const profile = join(folder, 'profile');
    const boot = ['boot', '--kernel', guest.kernel, '--initrd', initrd, '--memory', '512M'];
    const result = spawnSync(
      process.execPath,
      [
        ...[join(ROOT, 'bin/umlaut.mjs'), ...boot, '--append', 'console=ttyS0 quiet panic=-1'],
        ...['--disk', `${guest.disk},readonly`, '--profile', profile, ...options],
      ],
      { encoding: 'latin1', stdio: ['ignore', 'pipe', 'pipe'], timeout: TIMEOUT_MS },
    );
    expect(result.status, `${name}: ${result.stdout}\n${result.stderr}`).toBe(0);
    const lines = result.stdout.split(/\r?\n/);
    expect(lines.some((line) => line.startsWith('RESULT '))).toBe(true);
    if (process.getuid?.() === 0) expect(lines).toEqual(expect.arrayContaining(expected(guest.root)));
    expect(readFileSync(profile, 'utf8')).toMatch(/^percent/);
  } finally {
    rmSync(folder, { recursive: true });
    rmSync(initrd, { force: true });
  }
});
