/** What the benchmarks run: Debian's kernel, initial RAM disks made for the purpose, our command and QEMU. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Apt } from '../src/images/apt.ts';
import { cpioArchive, type CpioEntry } from '../src/images/cpio.ts';
import { findTool, runTool } from '../src/images/tools.ts';
import { prepareQemu } from './qemu.ts';

export type Engine = 'umlaut' | 'qemu';

/** The same disk for both engines: a copy-on-write file over a raw one, and a qcow2 overlay over it. */
export interface BenchDisk {
  readonly file: string;
  /** Absent: to be read only. */
  readonly cow?: string;
  readonly qcow2?: string;
}

export interface GuestOptions {
  readonly initrd: string;
  /** The kit's by default. */
  readonly kernel?: string;
  readonly append?: string;
  readonly memoryMib?: number;
  readonly disks?: readonly BenchDisk[];
  /** More options of `umlaut boot`, or of QEMU. */
  readonly options?: readonly string[];
}

export interface Reached<T> {
  readonly seconds: number;
  readonly value: T;
  readonly output: string;
}

const KERNEL_PACKAGE = 'linux-image-cloud-amd64';
const TIMEOUT_MS = 600_000;
const OUTPUT_BYTES_MAX = 64 << 20;
export const MEMORY_MIB = 256;
const root = fileURLToPath(new URL('..', import.meta.url));

export class BenchKit {
  readonly kernelVersion: string;
  readonly folder: string;
  readonly #qemu: boolean;
  readonly kernel: string;
  readonly #busybox: Uint8Array;

  private constructor(folder: string, kernel: string, busybox: Uint8Array) {
    this.folder = folder;
    this.#qemu = findTool('qemu-system-x86_64') !== undefined;
    this.kernel = kernel;
    this.kernelVersion = kernel.slice(kernel.indexOf('vmlinuz-') + 8);
    this.#busybox = busybox;
  }

  /** Gets the kernel and busybox by apt, into build/bench, unless they are there; as root, also the newest QEMU. */
  static async open(note: (text: string) => void): Promise<BenchKit> {
    prepareQemu(note);
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
    const file = join(this.folder, `${name}.cpio`);
    writeFileSync(file, cpioArchive(entries));
    return file;
  }

  /** Who there is to compare, in the order of their turns. */
  get engines(): readonly Engine[] {
    return this.#qemu ? ['umlaut', 'qemu'] : ['umlaut'];
  }

  /** Compiles a C program into the folder; undefined without a compiler. */
  compile(name: string, source: string, libraries: readonly string[] = []): string | undefined {
    if (findTool('gcc') === undefined) return undefined;
    const program = join(this.folder, name);
    const args = ['-O2', '-static', '-o', program, join(root, source), ...libraries];
    return spawnSync('gcc', args, { stdio: 'ignore' }).status === 0 ? program : undefined;
  }

  /** lib/modules/RELEASE of the kernel. */
  get modules(): string {
    return join(this.folder, 'root/lib/modules', this.kernelVersion);
  }

  #command(engine: Engine, guest: GuestOptions): [string, string[]] {
    const kernel = guest.kernel ?? this.kernel;
    const append = guest.append ?? 'console=ttyS0 quiet panic=-1';
    const mib = guest.memoryMib ?? MEMORY_MIB;
    const disks = guest.disks ?? [];
    if (engine === 'umlaut') {
      const boot = ['boot', '--kernel', kernel, '--initrd', guest.initrd, '--append', append];
      const attach = disks.flatMap(({ file, cow }) => [
        '--disk',
        cow === undefined ? `${file},readonly` : `${file},cow=${cow}`,
      ]);
      return [
        process.execPath,
        [join(root, 'bin/umlaut.mjs'), ...boot, '--memory', `${mib}M`, ...attach, ...(guest.options ?? [])],
      ];
    }
    const machine = '-accel tcg -display none -serial stdio -monitor none -no-reboot'.split(' ');
    const attach = disks.flatMap(({ file, qcow2 }) => [
      '-drive',
      qcow2 === undefined
        ? `if=virtio,file=${file},format=raw,readonly=on`
        : `if=virtio,file=${qcow2},format=qcow2,cache=writeback,discard=unmap`,
    ]);
    const boot = ['-kernel', kernel, '-initrd', guest.initrd, '-append', append];
    return [
      'qemu-system-x86_64',
      [...machine, '-m', String(mib), ...boot, ...attach, ...(guest.options ?? [])],
    ];
  }

  /** Boots, and returns what the guest printed until it powered off. */
  run(engine: Engine, guest: GuestOptions): string {
    const [command, args] = this.#command(engine, guest);
    const result = spawnSync(command, args, {
      encoding: 'latin1',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
      maxBuffer: OUTPUT_BYTES_MAX,
    });
    if (result.status !== 0) throw new Error(`${engine} ended with ${result.status}: ${result.stderr}`);
    return result.stdout;
  }

  /**
   * Boots until the guest prints `text`; what `then` gives of the running emulator's process, and the seconds from its
   * start. The emulator is ended.
   */
  async until<T>(
    engine: Engine,
    guest: GuestOptions,
    text: string,
    then: (pid: number) => T,
  ): Promise<Reached<T>> {
    const [command, args] = this.#command(engine, guest);
    const started = performance.now();
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS);
    const ended = new Promise((resolve) => child.once('close', resolve));
    try {
      let output = '';
      for await (const chunk of child.stdout.setEncoding('latin1')) {
        output += chunk;
        if (!output.includes(text)) continue;
        const seconds = (performance.now() - started) / 1000;
        return { seconds, value: then(child.pid!), output };
      }
      throw new Error(`${engine} ended without "${text}":\n${output.slice(-2000)}`);
    } finally {
      clearTimeout(timer);
      child.kill('SIGKILL');
      await ended;
    }
  }
}
