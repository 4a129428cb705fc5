/** Real User-mode Linux with a network card (Debian packages user-mode-linux and busybox-static). */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cpioArchive } from '../../src/images/cpio.ts';
import { requireTool, skipTest } from './tools.ts';

export const UML_BOOT_MS = 120_000;
const INIT = `#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc; $B mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
for word in $($B cat /proc/cmdline); do case "$word" in
  ip=*) for card in eth0 vec0; do $B ifconfig $card \${word#ip=} up 2>/dev/null; done; echo GUEST-UP;;
  fetch=*) echo "FETCHED $($B wget -q -O - http://\${word#fetch=} | $B md5sum)";;
  ping=*) $B ping -c 3 -i 0.2 -s 1400 \${word#ping=}; echo GUEST-DONE;;
esac; done
while :; do $B sleep 3600; done
`;

export class UmlGuests {
  readonly #folder: string;
  readonly #guests: ChildProcess[] = [];

  /** Writes the initial RAM disk into `folder`. Skips the current test where the programs are missing. */
  constructor(folder: string) {
    this.#folder = folder;
    const busybox = requireTool('busybox', 'busybox-static');
    if (spawnSync('ldd', [busybox]).status === 0) {
      skipTest('busybox is not static (Debian package busybox-static)');
    }
    const entries = ['bin', 'dev', 'proc'].map((path) => ({ kind: 'folder', path }) as const);
    const archive = cpioArchive([
      ...entries,
      { kind: 'file', path: 'bin/busybox', content: readFileSync(busybox), executable: true },
      { kind: 'file', path: 'init', content: Buffer.from(INIT), executable: true },
    ]);
    writeFileSync(join(folder, 'initrd'), archive);
  }

  /**
   * Boots until the guest says `awaited`; gives all that it said. `words` are done in order: ip=ADDRESS, fetch=ADDRESS/PATH (the MD5
   * of what is got by HTTP), ping=ADDRESS.
   * @param card `eth0=…` or `vec0:…`
   */
  boot(name: string, awaited: string, words: readonly string[], card: string): Promise<string> {
    const guest = this.#spawn(name, words, card);
    let said = '';
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ${awaited}:\n${said}`)), UML_BOOT_MS);
      const hear = (bytes: Uint8Array): void => {
        said += Buffer.from(bytes).toString('latin1');
        if (!said.includes(awaited)) return;
        clearTimeout(timer);
        resolve(said);
      };
      guest.stdout!.on('data', hear);
      guest.stderr!.on('data', hear);
      guest.once('exit', (code) => {
        clearTimeout(timer);
        reject(new Error(`linux.uml has ended (${code}):\n${said}`));
      });
    });
  }

  async end(): Promise<void> {
    for (const guest of this.#guests.splice(0)) {
      if (guest.exitCode !== null || guest.signalCode !== null) continue;
      // INVARIANT: it is running, so it has a number; its threads are processes of its group.
      process.kill(-guest.pid!, 'SIGKILL');
      await once(guest, 'exit');
    }
  }

  #spawn(name: string, words: readonly string[], card: string): ChildProcess {
    const folder = this.#folder;
    const uml = requireTool('linux.uml', 'user-mode-linux');
    const setarch = requireTool('setarch', 'util-linux');
    const machine = [
      'mem=96M',
      `umid=${name}`,
      `uml_dir=${folder}`,
      `initrd=${join(folder, 'initrd')}`,
      'root=/dev/ram0',
    ];
    const consoles = ['con=null', 'con0=null,fd:1', 'ssl=null', card];
    // Without randomized addresses, with which UML sometimes has no memory.
    const guest = spawn(setarch, ['-R', uml, ...machine, ...consoles, ...words], {
      cwd: folder,
      env: { ...process.env, TMPDIR: folder, HOME: folder },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.#guests.push(guest);
    return guest;
  }
}
