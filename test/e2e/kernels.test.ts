/**
 * Stock kernels of Debian under `umlaut boot`: to /init in an initial RAM disk, a program there, and power off.
 * The packages come by apt, into build/test-kernels; what apt cannot deliver is skipped by name.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { AppError } from '../../src/contracts/errors.ts';
import { Apt } from '../../src/images/apt.ts';
import { cpioArchive, type CpioEntry } from '../../src/images/cpio.ts';
import { runTool } from '../../src/images/tools.ts';
import { requireTool, skipTest } from '../support/tools.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CACHE = join(ROOT, 'build/test-kernels');
const BOOT_TIMEOUT_MS = 240_000;

const KERNELS = [
  {
    name: 'Debian 12, cloud',
    metaPackage: 'linux-image-cloud-amd64',
    suite: 'bookworm',
    release: /^6\.1\.\d.*cloud/,
  },
  {
    name: 'Debian 12, generic',
    metaPackage: 'linux-image-amd64',
    suite: 'bookworm',
    release: /^6\.1\.\d.*-amd64/,
  },
  {
    name: 'Debian 13, cloud',
    metaPackage: 'linux-image-cloud-amd64',
    suite: 'trixie',
    release: /^6\.12\.\d/,
  },
] as const;

/** How the guest's code is run. */
const SETTINGS = [
  { name: 'compiled where hot', options: [] },
  { name: 'interpreted', options: ['--no-jit'] },
] as const;

/** The kernel's file, or why it cannot be had. */
async function kernelFile(metaPackage: string, suite: string): Promise<string> {
  const folder = join(CACHE, `${suite}-${metaPackage}`);
  const boot = join(folder, 'root', 'boot');
  if (!existsSync(join(folder, 'complete'))) {
    mkdirSync(join(folder, 'root'), { recursive: true });
    const apt = await Apt.open(folder, metaPackage, suite);
    const name = (await apt.dependencies(metaPackage)).find((item) => item.startsWith('linux-image-'));
    if (name === undefined) throw new AppError('job_failed', `apt-cache names no kernel for ${metaPackage}`);
    const [file] = await apt.download([name], () => {});
    await runTool('dpkg-deb', ['-x', file!, join(folder, 'root')]);
    // only the kernel is wanted: modules take a hundred times its room
    for (const rest of [file!, join(folder, 'root/lib'), join(folder, 'root/usr')])
      rmSync(rest, { recursive: true, force: true });
    writeFileSync(join(folder, 'complete'), '');
  }
  return join(boot, readdirSync(boot).find((entry) => entry.startsWith('vmlinuz-'))!);
}

async function kernelOrSkip(metaPackage: string, suite: string): Promise<string> {
  try {
    return await kernelFile(metaPackage, suite);
  } catch (error) {
    const known = error instanceof AppError && (error.code === 'job_failed' || error.code === 'tool_missing');
    if (!known) throw error;
    return skipTest(`apt does not deliver ${metaPackage} of ${suite}: ${error.message.slice(0, 200)}`);
  }
}

function initrd(): string {
  const busybox = requireTool('busybox', 'busybox-static');
  const script = [
    '#!/bin/busybox sh',
    '/bin/busybox mount -t proc proc /proc',
    '/bin/busybox echo "RELEASE $(/bin/busybox uname -r)"',
    // arithmetic, a pipe, processes and floating point in the guest
    '/bin/busybox echo "SUM $(/bin/busybox seq 1 2000 | /bin/busybox sha256sum)"',
    `/bin/busybox awk 'BEGIN { for (i = 1; i <= 2000; i++) s += 1 / (i * i); printf "SQUARES %.12f\\n", s }'`,
    '/bin/busybox poweroff -f',
  ].join('\n');
  const entries: CpioEntry[] = [
    { kind: 'folder', path: 'bin' },
    { kind: 'folder', path: 'proc' },
    { kind: 'file', path: 'bin/busybox', content: readFileSync(busybox), executable: true },
    { kind: 'file', path: 'init', content: Buffer.from(`${script}\n`), executable: true },
  ];
  mkdirSync(CACHE, { recursive: true });
  const file = join(CACHE, `initrd-${process.pid}.cpio`);
  writeFileSync(file, cpioArchive(entries));
  return file;
}

/** What the same commands print on this machine. */
function expectedLines(): string[] {
  const run = (command: string): string =>
    spawnSync('sh', ['-c', command], { encoding: 'utf8' }).stdout.trim();
  const busybox = requireTool('busybox', 'busybox-static');
  return [
    `SUM ${run(`${busybox} seq 1 2000 | ${busybox} sha256sum`)}`,
    run(`${busybox} awk 'BEGIN { for (i = 1; i <= 2000; i++) s += 1 / (i * i); printf "SQUARES %.12f", s }'`),
  ];
}

describe.each(KERNELS)('$name', ({ metaPackage, suite, release }) => {
  test.each(SETTINGS)(
    'boots to /init and powers off, $name',
    async ({ options }) => {
      const kernel = await kernelOrSkip(metaPackage, suite);
      const args = [
        'boot',
        '--kernel',
        kernel,
        '--initrd',
        initrd(),
        '--append',
        'console=ttyS0 quiet panic=-1',
      ];
      const result = spawnSync(process.execPath, [join(ROOT, 'bin/umlaut.mjs'), ...args, ...options], {
        encoding: 'latin1',
        stdio: ['ignore', 'pipe', 'pipe'],
        timeout: BOOT_TIMEOUT_MS,
      });
      const lines = result.stdout.split(/\r?\n/);
      expect(result.status, `${result.stdout}\n${result.stderr}`).toBe(0);
      expect(lines.find((line) => line.startsWith('RELEASE '))?.slice(8)).toMatch(release);
      for (const line of expectedLines()) expect(lines).toContain(line);
    },
    BOOT_TIMEOUT_MS + 60_000,
  );
});
