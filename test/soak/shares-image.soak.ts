/** The default image with Debian's generic kernel mounts what the host shares with it; a guest that is watched does not notice. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { castEvents } from '../../src/uml/asciicast.ts';
import { AppError } from '../../src/contracts/errors.ts';
import { Daemon } from '../support/daemon.ts';
import { TEST_IMAGE_FOLDER } from '../support/test-image.ts';
import { skipTest } from '../support/tools.ts';

const TIMEOUT_MS = 30 * 60_000;

let home: string | undefined;
let daemon: Daemon | undefined;
const share = path.join(TEST_IMAGE_FOLDER, `share-${process.pid}`);

afterAll(async () => {
  await daemon?.stop();
  if (home !== undefined) fs.rmSync(home, { recursive: true, force: true });
  fs.rmSync(share, { recursive: true, force: true });
}, 60_000);

async function build(running: Daemon): Promise<void> {
  const operation = await running.client.buildImage({ name: 'default', kernel: 'generic' });
  for (;;) {
    const now = await running.client.waitOperation(operation.id, 60);
    if (now.status === 'succeeded') return;
    if (now.status === 'failed')
      skipTest(`the image cannot be built here: ${now.error?.detail.slice(0, 200)}`);
  }
}

test(
  'shares are mounted, and what the guest does is seen',
  async () => {
    home = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-soak-'));
    daemon = await Daemon.start(home);
    const { client } = daemon;
    await build(daemon);
    fs.mkdirSync(share, { recursive: true });
    fs.writeFileSync(path.join(share, 'hello'), 'from the host\n');
    await client.createVm({
      name: 'web',
      memory_bytes: 256 << 20,
      shares: [{ tag: 'src', path: share }],
      watch: ['exec', 'open', 'connect', 'tty'],
    });
    const console = await daemon.boot('web');
    expect(await console.check('cat /mnt/src/hello')).toBe('from the host');
    await console.check('cp /bin/busybox /mnt/src/copy && cmp /bin/busybox /mnt/src/copy');
    await console.check('! nc -w 1 127.0.0.1 7 < /dev/null');
    console.close();
    await daemon.finish(await client.haltVm('web'));
    const trace = Buffer.from(await client.getTrace('web'))
      .toString('utf8')
      .trim()
      .split('\n');
    const records = trace.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(records.find(({ kind }) => kind === 'exec')).toMatchObject({ pid: 1, path: '/init' });
    expect(records.some(({ kind, path: file }) => kind === 'open' && file === '/mnt/src/hello')).toBe(true);
    expect(records).toContainEqual(
      expect.objectContaining({ kind: 'connect', address: '127.0.0.1', port: 7 }),
    );
    const cast = Buffer.from(
      await client.getTtyLog('web', { format: 'asciicast', console: 'ttyS0' }),
    ).toString('utf8');
    const shown = castEvents(cast)
      .filter(({ kind }) => kind === 'o')
      .map(({ text }) => text)
      .join('');
    expect(shown).toContain('from the host');
    const types = (await client.listEvents({ after: 0, limit: 1000 })).items.map(({ type }) => type);
    expect(types).toContain('vm.traced');
    await expect(client.getTtyLog('web', { format: 'asciicast', console: 'hvc7' })).rejects.toBeInstanceOf(
      AppError,
    );
  },
  TIMEOUT_MS,
);
