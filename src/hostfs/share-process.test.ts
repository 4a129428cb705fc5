import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { ShareConfig } from '../contracts/machine.ts';
import { ERRNO } from './libc.ts';
import { ShareProcess } from './share-process.ts';
import { Client, message, u32 } from './testing/client.ts';
import { HEADER_BYTES, T } from './wire.ts';

const TIMEOUT_MS = 60_000;
const MIB = 1 << 20;

function children(): number[] {
  return fs
    .readdirSync('/proc/self/task')
    .flatMap((thread) => fs.readFileSync(`/proc/self/task/${thread}/children`, 'utf8').trim().split(' '))
    .filter((pid) => pid !== '')
    .map(Number);
}

function serve(options: Partial<ShareConfig> = {}) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-share-'));
  const before = new Set(children());
  const share = new ShareProcess({ tag: 't', folder, readOnly: false, ...options });
  const pid = children().find((one) => !before.has(one))!;
  onTestFinished(async () => {
    await share.close();
    fs.rmSync(folder, { recursive: true });
  });
  return { folder, share, pid };
}

test(
  'requests are served as in the thread, large ones too, and a reset forgets what is open',
  async () => {
    const { folder, share, pid } = serve();
    await share.opened;
    const guest = await new Client(share).attach();
    const file = await guest.create(guest.root, Buffer.from([0x61, 0xff, 0x0a]));
    const data = Buffer.alloc(MIB - 1024, 'umlaut');
    expect(await guest.write(file, data)).toBe(data.length);
    expect((await guest.read(file, 0, data.length)).equals(data)).toBe(true);
    // All at once: each reply comes to its own request.
    const parts = await Promise.all([...Array(100).keys()].map((n) => guest.read(file, n * 6 + (n % 6), 3)));
    expect(parts.map(String)).toEqual(
      [...Array(100).keys()].map((n) => 'umlautuml'.slice(n % 6).slice(0, 3)),
    );
    share.reset();
    await expect(guest.read(file)).rejects.toMatchObject({ errno: ERRNO.EBADF });
    await new Client(share).attach();
    const closing = share.close();
    await closing;
    expect(fs.existsSync(`/proc/${pid}`)).toBe(false);
    expect(fs.readdirSync(folder, { encoding: 'buffer' })).toEqual([Buffer.from([0x61, 0xff, 0x0a])]);
  },
  TIMEOUT_MS,
);

test(
  'what cannot be opened is told',
  async () => {
    const { share, folder } = serve({ folder: '/nowhere' });
    await expect(share.opened).rejects.toMatchObject({ code: 'not_found', field: 'shares.t.path' });
    fs.mkdirSync(folder, { recursive: true });
  },
  TIMEOUT_MS,
);

test(
  'a process that hangs answers later, or is ended; one that has ended is an I/O error',
  async () => {
    const { share, pid } = serve();
    await share.opened;
    const guest = await new Client(share).attach();
    process.kill(pid, 'SIGSTOP');
    const late = guest.attributes(guest.root);
    expect(await Promise.race([late, Promise.resolve('nothing')])).toBe('nothing');
    process.kill(pid, 'SIGCONT');
    expect((await late).links).toBeGreaterThan(0n);

    process.kill(pid, 'SIGSTOP');
    const never = guest.attributes(guest.root);
    const refused = expect(never).rejects.toMatchObject({ errno: ERRNO.EIO });
    await share.close();
    await refused;
    const request = message(T.GETATTR, 0x1234, [u32(guest.root)]);
    const reply = await guest.raw(request);
    expect([reply[4], reply.readUInt16LE(5), reply.readUInt32LE(HEADER_BYTES)]).toEqual([
      T.LERROR + 1,
      0x1234,
      ERRNO.EIO,
    ]);
    expect((await guest.raw(request.subarray(0, 3))).readUInt32LE(HEADER_BYTES)).toBe(ERRNO.EIO);
  },
  TIMEOUT_MS,
);
