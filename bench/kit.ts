/** What the benchmarks run: Debian's kernel, initial RAM disks made for the purpose, our command and QEMU. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Apt } from '../src/images/apt.ts';
import { cpioArchive, type CpioEntry } from '../src/images/cpio.ts';
import { findTool, runTool } from '../src/images/tools.ts';

export type Engine = 'umlaut' | 'qemu';
/** Seconds and checksum of each program of a run. */
export type Timing = ReadonlyMap<string, { readonly seconds: number; readonly result: string }>;

/** The same disk for both engines: a copy-on-write file over a raw one, and a qcow2 overlay over it. */
export interface BenchDisk {
  readonly file: string;
  readonly cow: string;
  readonly qcow2: string;
}

const KERNEL_PACKAGE = 'linux-image-cloud-amd64';
const FIRST_LINE = 'FIRST-LINE-OF-INIT';
const TIMEOUT_MS = 600_000;
const root = fileURLToPath(new URL('..', import.meta.url));

export class BenchKit {
  readonly kernelVersion: string;
  readonly qemu = findTool('qemu-system-x86_64') !== undefined;
  readonly #folder: string;
  readonly #kernel: string;
  readonly #busybox: Uint8Array;

  private constructor(folder: string, kernel: string, busybox: Uint8Array) {
    this.#folder = folder;
    this.#kernel = kernel;
    this.kernelVersion = kernel.slice(kernel.indexOf('vmlinuz-') + 8);
    this.#busybox = busybox;
  }

  /** Gets the kernel and busybox by apt, into build/bench, unless they are there. */
  static async open(note: (text: string) => void): Promise<BenchKit> {
    const folder = join(root, 'build/bench');
    const unpacked = join(folder, 'root');
    if (!existsSync(join(unpacked, 'boot'))) {
      note('downloading a kernel and busybox from Debian');
      mkdirSync(unpacked, { recursive: true });
      const apt = await Apt.open(folder, KERNEL_PACKAGE);
      const kernel = (await apt.dependencies(KERNEL_PACKAGE)).find((name) => name.startsWith('linux-image-'));
      if (kernel === undefined) throw new Error(`${KERNEL_PACKAGE} depends on no kernel`);
      for (const file of await apt.download([kernel, 'busybox-static'], () => {})) {
        await runTool('dpkg-deb', ['-x', file, unpacked]);
      }
    }
    const name = readdirSync(join(unpacked, 'boot')).find((file) => file.startsWith('vmlinuz-'));
    if (name === undefined) throw new Error('the kernel package holds no kernel');
    const busybox = ['bin/busybox', 'usr/bin/busybox']
      .map((file) => join(unpacked, file))
      .find((file) => existsSync(file));
    if (busybox === undefined) throw new Error('the busybox package holds no busybox');
    return new BenchKit(folder, join(unpacked, 'boot', name), readFileSync(busybox));
  }

  /** An initial RAM disk with busybox and an /init of these commands, in which `$B` is busybox. */
  initrd(name: string, commands: string, files: readonly CpioEntry[] = []): string {
    const init = `#!/bin/busybox sh\nB=/bin/busybox\n${commands}\n$B poweroff -f\n`;
    const entries: CpioEntry[] = [
      ...['bin', 'dev', 'proc', 'sys', 'tmp'].map((path): CpioEntry => ({ kind: 'folder', path })),
      { kind: 'file', path: 'bin/busybox', content: this.#busybox, executable: true },
      { kind: 'file', path: 'init', content: Buffer.from(init), executable: true },
      ...files,
    ];
    const file = join(this.#folder, `${name}.cpio`);
    writeFileSync(file, cpioArchive(entries));
    return file;
  }

  /** lib/modules/RELEASE of the kernel. */
  get modules(): string {
    return join(this.#folder, 'root/lib/modules', this.kernelVersion);
  }

  #command(engine: Engine, initrd: string, disks: readonly BenchDisk[]): [string, string[]] {
    const append = 'console=ttyS0 quiet panic=-1';
    if (engine === 'umlaut') {
      const umlaut = join(root, 'bin/umlaut.mjs');
      return [
        process.execPath,
        [
          umlaut,
          'boot',
          '--kernel',
          this.#kernel,
          '--initrd',
          initrd,
          '--append',
          append,
          '--memory',
          '256M',
          ...disks.flatMap(({ file, cow }) => ['--disk', `${file},cow=${cow}`]),
        ],
      ];
    }
    return [
      'qemu-system-x86_64',
      [
        ...[
          '-accel',
          'tcg',
          '-m',
          '256',
          '-display',
          'none',
          '-serial',
          'stdio',
          '-monitor',
          'none',
          '-no-reboot',
        ],
        ...['-kernel', this.#kernel, '-initrd', initrd, '-append', append],
        ...disks.flatMap(({ qcow2 }) => [
          '-drive',
          `if=virtio,file=${qcow2},format=qcow2,cache=writeback,discard=unmap`,
        ]),
      ],
    ];
  }

  /** Boots, and returns what the guest printed until it powered off. */
  run(engine: Engine, initrd: string, disks: readonly BenchDisk[] = []): string {
    const [command, args] = this.#command(engine, initrd, disks);
    const result = spawnSync(command, args, {
      encoding: 'latin1',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
    });
    if (result.status !== 0) throw new Error(`${engine} ended with ${result.status}: ${result.stderr}`);
    return result.stdout;
  }

  /** From the start of the emulator until the guest's /init has run its first line and powered off at once. */
  bootSeconds(engine: Engine): number {
    const initrd = this.initrd('boot', `$B echo ${FIRST_LINE}`);
    const started = performance.now();
    const output = this.run(engine, initrd);
    const seconds = (performance.now() - started) / 1000;
    if (!output.includes(FIRST_LINE)) throw new Error(`${engine} did not reach /init`);
    return seconds;
  }

  /** Builds the compute suite; false without a compiler. */
  compileSuite(): boolean {
    if (findTool('gcc') === undefined) return false;
    const source = join(root, 'bench/compute/suite.c');
    const built = spawnSync('gcc', ['-O2', '-static', '-o', this.#suiteFile, source, '-lm'], {
      stdio: 'ignore',
    });
    return built.status === 0;
  }

  get #suiteFile(): string {
    return join(this.#folder, 'suite');
  }

  suiteNative(): Timing {
    return parse(spawnSync(this.#suiteFile, { encoding: 'latin1' }).stdout);
  }

  suite(engine: Engine): Timing {
    const suite: CpioEntry = {
      kind: 'file',
      path: 'bin/suite',
      content: readFileSync(this.#suiteFile),
      executable: true,
    };
    const mounts = '$B mount -t proc proc /proc; $B mount -t devtmpfs dev /dev';
    return parse(this.run(engine, this.initrd('suite', `${mounts}; /bin/suite`, [suite])));
  }
}

function parse(output: string): Timing {
  const lines = [...output.matchAll(/^([a-z0-9]+) ([0-9.]+) ([0-9a-f]+)\r?$/gm)];
  if (lines.length === 0) throw new Error('the suite printed nothing');
  return new Map(lines.map(([, name, seconds, result]) => [name, { seconds: Number(seconds), result }]));
}
