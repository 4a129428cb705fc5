/**
 * Before the tests: the programs of Debian that tests run against. Root gets the missing ones installed, anybody else
 * is told which tests will be skipped. Never fails: offline, the tests that need a missing program are skipped too.
 */
import { spawnSync } from 'node:child_process';
import { findTool } from '../src/images/tools.ts';

/** A program, and the package of Debian 12 that has it. */
const TOOLS = [
  ['apt-get', 'apt'],
  ['busybox', 'busybox-static'],
  ['chromium', 'chromium'],
  ['cpio', 'cpio'],
  ['debugfs', 'e2fsprogs'],
  ['gcc', 'build-essential'],
  ['isoinfo', 'genisoimage'],
  ['linux.uml', 'user-mode-linux'],
  ['mke2fs', 'e2fsprogs'],
  ['mmdebstrap', 'mmdebstrap'],
  ['nasm', 'nasm'],
  ['qemu-img', 'qemu-utils'],
  ['qemu-system-x86_64', 'qemu-system-x86'],
  ['ip', 'iproute2'],
  ['rclone', 'rclone'],
  ['redis-server', 'redis-server'],
  ['tcpdump', 'tcpdump'],
  ['uml_mconsole', 'uml-utilities'],
  ['screen', 'screen'],
  ['sshd', 'openssh-server'],
  ['sshfs', 'sshfs'],
  ['fusermount3', 'fuse3'],
  ['socat', 'socat'],
  ['telnet', 'telnet'],
  ['vde_plug', 'vdeplug'],
  ['vde_switch', 'vde2'],
  ['xterm', 'xterm'],
  ['Xvfb', 'xvfb'],
] as const;

const UPDATE_TIMEOUT_MS = 2 * 60 * 1000;
const INSTALL_TIMEOUT_MS = 10 * 60 * 1000;

function missing(): (typeof TOOLS)[number][] {
  return TOOLS.filter(([tool]) => findTool(tool) === undefined);
}

function list(tools: readonly (typeof TOOLS)[number][]): string {
  return tools.map(([tool, debianPackage]) => `${tool} (${debianPackage})`).join(', ');
}

function apt(args: readonly string[], timeout: number): boolean {
  const env = {
    ...process.env,
    DEBIAN_FRONTEND: 'noninteractive',
    // Debian's maintainer scripts start no services in run level 1: the tests start their own.
    RUNLEVEL: '1',
  };
  const result = spawnSync('apt-get', ['-q', ...args], {
    env,
    timeout,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return result.status === 0;
}

function install(): void {
  const packages = [...new Set(missing().map(([, debianPackage]) => debianPackage))];
  const wanted = ['install', '-y', '--no-install-recommends', ...packages];
  console.log(`test setup: installing Debian packages for the tests: ${packages.join(', ')}`);
  if (apt(wanted, INSTALL_TIMEOUT_MS)) return;
  if (apt(['update'], UPDATE_TIMEOUT_MS) && apt(wanted, INSTALL_TIMEOUT_MS)) return;
  // One package that cannot be had must not keep back the others.
  for (const one of packages) apt(['install', '-y', '--no-install-recommends', one], INSTALL_TIMEOUT_MS);
}

function setUp(): void {
  if (missing().length === 0) return;
  if (process.getuid?.() === 0 && findTool('apt-get') !== undefined) install();
  const still = missing();
  if (still.length > 0) console.log(`test setup: tests that need these are skipped: ${list(still)}`);
}

setUp();
