/**
 * The QEMU to compare with: the newest that Debian offers. Root gets it from the backports of the host's release, for
 * anybody else it is what is installed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { findTool } from '../src/images/tools.ts';

const PACKAGE = 'qemu-system-x86';
const PROGRAM = 'qemu-system-x86_64';
const SOURCES = '/etc/apt/sources.list.d/umlaut-bench-backports.list';
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const UPDATE_TIMEOUT_MS = 2 * 60 * 1000;
const INSTALL_TIMEOUT_MS = 10 * 60 * 1000;

/** What `--version` says, undefined where there is none. */
export function qemuVersion(): string | undefined {
  if (findTool(PROGRAM) === undefined) return undefined;
  return spawnSync(PROGRAM, ['--version'], { encoding: 'utf8' }).stdout.split('\n')[0];
}

/** Debian's release name of this host, if it is one that has backports. */
function backports(): string | undefined {
  if (!existsSync('/etc/os-release') || findTool('apt-get') === undefined) return undefined;
  const release = readFileSync('/etc/os-release', 'utf8');
  if (!/^ID=debian$/m.test(release)) return undefined;
  const codename = /^VERSION_CODENAME=(\w+)$/m.exec(release)?.[1];
  return codename === undefined ? undefined : `${codename}-backports`;
}

function apt(args: readonly string[], timeout: number): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  return spawnSync('apt-get', ['-q', ...args], { env, timeout, stdio: 'ignore' }).status === 0;
}

/** The newest version that the suite has, undefined where apt knows none. */
function offered(suite: string): string | undefined {
  const { stdout } = spawnSync('apt-cache', ['madison', PACKAGE], { encoding: 'utf8' });
  const lines = stdout.split('\n').map((line) => line.split('|').map((field) => field.trim()));
  return lines.find(([, , from]) => from?.includes(` ${suite}/`))?.[1];
}

function installed(): string | undefined {
  const { stdout } = spawnSync('dpkg-query', ['-s', PACKAGE], { encoding: 'utf8' });
  return /^Version: (.*)$/m.exec(stdout)?.[1];
}

/** Installs the newest QEMU where that can be done, and says so. Never fails: then there is another one, or none. */
export function prepareQemu(note: (text: string) => void): void {
  const suite = backports();
  if (suite === undefined || process.getuid?.() !== 0) return;
  if (offered(suite) === undefined && !existsSync(SOURCES)) {
    note(`adding ${suite} to apt's sources, for a newer QEMU (${SOURCES})`);
    writeFileSync(SOURCES, `deb [signed-by=${KEYRING}] http://deb.debian.org/debian ${suite} main\n`);
    if (!apt(['update'], UPDATE_TIMEOUT_MS)) note('apt-get update failed: the QEMU that is here is used');
  }
  const newest = offered(suite);
  if (newest === undefined || newest === installed()) return;
  note(`installing ${PACKAGE} ${newest} from ${suite}`);
  const done = apt(['install', '-y', '--no-install-recommends', '-t', suite, PACKAGE], INSTALL_TIMEOUT_MS);
  if (!done) note(`apt-get could not install it: ${qemuVersion() ?? 'no QEMU'} is used`);
}
