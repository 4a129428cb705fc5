/** The default image, built from Debian's packages and booted by an emulator that is not ours. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { expect, it, onTestFinished } from 'vitest';
import { AppError } from '../../src/contracts/errors.ts';
import { type Image, ImageStore, buildDefaultImage, ROOT_PASSWORD } from '../../src/images/index.ts';
import { scratchFolder } from '../support/storage.ts';
import { requireTool, skipTest } from '../support/tools.ts';

async function build(store: ImageStore, fractions: number[]): Promise<Image> {
  requireTool('apt-get', 'apt');
  try {
    return await buildDefaultImage(store, { onProgress: ({ fraction }) => fractions.push(fraction) });
  } catch (error) {
    if (error instanceof AppError && error.code === 'job_failed' && error.message.startsWith('apt-')) {
      skipTest(`Debian's packages cannot be had here: ${error.message.slice(0, 200)}`);
    }
    throw error;
  }
}

/** A guest's serial console: waits for texts in what it prints. */
class Console {
  readonly #child: ChildProcess;
  #output = '';
  #from = 0;
  #ended = false;
  #changed = Promise.withResolvers<void>();

  constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text;
      this.#wake();
    });
    child.stdout!.on('close', () => {
      this.#ended = true;
      this.#wake();
    });
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  /** Resolves with all that came since the last wait, `text` included. */
  async waitFor(text: string): Promise<string> {
    for (;;) {
      const at = this.#output.indexOf(text, this.#from);
      if (at >= 0) {
        const before = this.#output.slice(this.#from, at + text.length);
        this.#from = at + text.length;
        return before;
      }
      if (this.#ended) throw new Error(`the guest ended before ${JSON.stringify(text)}:\n${this.#output}`);
      await this.#changed.promise;
    }
  }

  type(line: string): void {
    this.#child.stdin!.write(`${line}\n`);
  }

  /** The output of a command. */
  async command(line: string): Promise<string> {
    this.type(`${line}; echo "do""ne"`);
    return this.waitFor('done\r\n');
  }
}

it('boots to a login prompt, has a network and a name, and powers off', { timeout: 240_000 }, async () => {
  const qemu = requireTool('qemu-system-x86_64', 'qemu-system-x86');
  const store = new ImageStore(scratchFolder());
  const fractions: number[] = [];
  const image = await build(store, fractions);
  expect(fractions).toEqual(fractions.toSorted((a, b) => a - b));
  expect(fractions.at(-1)).toBe(1);
  expect(fs.readdirSync(store.dir)).toEqual([image.id]);

  const child = spawn(
    qemu,
    [
      ...[
        '-accel',
        'tcg',
        '-m',
        '256',
        '-display',
        'none',
        '-monitor',
        'none',
        '-serial',
        'stdio',
        '-no-reboot',
      ],
      ...['-kernel', image.kernel, '-initrd', image.initrd!, '-append', `${image.append} umlaut.name=kiwi`],
      ...[
        '-drive',
        `if=virtio,format=raw,snapshot=on,file=${image.disk}`,
        '-nic',
        'user,model=virtio-net-pci',
      ],
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  const guest = new Console(child);
  expect(await guest.waitFor('kiwi login: ')).toContain(`log in as root, password ${ROOT_PASSWORD}`);
  guest.type('root');
  await guest.waitFor('assword: ');
  guest.type(ROOT_PASSWORD);
  await guest.waitFor('# ');
  expect(await guest.command('hostname')).toContain('kiwi\r\n');
  expect(
    await guest.command(
      'for i in 1 2 3 4 5 6 7 8 9; do ip -4 addr show eth0 | grep inet && break; sleep 1; done',
    ),
  ).toContain('inet 10.0.2.15/24');
  expect(await guest.command('ls -ldn /etc/shadow /root')).toMatch(
    /-rw-------\s+1 0\s+0 .*drwx------\s+2 0\s+0 /s,
  );
  expect(await guest.command('lsmod; pidof acpid')).toMatch(/button.*\r\n\d+\r\n/s);
  expect(await guest.command('touch /new && grep " / " /proc/mounts')).toContain('ext4 rw');
  guest.type('poweroff');
  await guest.waitFor('Power down');
  const [status] = child.exitCode === null ? await once(child, 'exit') : [child.exitCode];
  expect(status).toBe(0);
});

it('is cancelled without a trace', async () => {
  requireTool('apt-get', 'apt');
  const store = new ImageStore(scratchFolder());
  const cancel = new AbortController();
  const result = buildDefaultImage(store, { signal: cancel.signal, onProgress: () => cancel.abort() });
  await expect(result).rejects.toMatchObject({ code: 'canceled' });
  expect(fs.readdirSync(store.dir)).toEqual([]);
});

it('refuses a disk that is too small and a suite that is no name', async () => {
  const store = new ImageStore(scratchFolder());
  const tooSmall = buildDefaultImage(store, { diskBytes: 1 << 20 });
  await expect(tooSmall).rejects.toMatchObject({ code: 'invalid_input', field: 'disk_bytes' });
  requireTool('apt-get', 'apt');
  const noSuite = buildDefaultImage(store, { suite: '-o/etc' });
  await expect(noSuite).rejects.toMatchObject({ code: 'invalid_input', field: 'suite' });
  expect(fs.readdirSync(store.dir)).toEqual([]);
});
