/** What the daemon tells of a guest of the default image: that it is up, what its programs say, that it hangs, that it has panicked. */
import { expect, test } from 'vitest';
import type { Event } from '../../src/contracts/api/index.ts';
import { useImageDaemon } from '../support/e2e-daemon.ts';

const MINUTE_MS = 60_000;

const daemon = useImageDaemon();

test(
  'a login prompt, words of a program, a hang and a panic are events',
  async () => {
    const stream = await daemon.client.openEvents({
      type: 'vm.login_prompt,vm.notification,vm.hung,vm.panicked',
    });
    const seen: Event[] = [];
    let changed = Promise.withResolvers<void>();
    stream.on('message', (data: Buffer) => {
      seen.push(JSON.parse(String(data)) as Event);
      changed.resolve();
    });
    stream.resume();
    const next = async (count: number): Promise<Event> => {
      while (seen.length < count) {
        await changed.promise;
        changed = Promise.withResolvers();
      }
      return seen[count - 1]!;
    };
    await daemon.client.createVm({ name: 'alpha', memory_bytes: 128 << 20 });
    const console = await daemon.boot('alpha');
    expect(await next(1)).toMatchObject({ type: 'vm.login_prompt', resource: { type: 'vm' } });
    await console.check('until [ -c /dev/virtio-ports/umlaut.notify ]; do usleep 100000; done');
    await console.check('echo "from inside" > /dev/virtio-ports/umlaut.notify');
    expect(await next(2)).toMatchObject({
      type: 'vm.notification',
      data: { text: 'from inside\n', dropped: 0 },
    });
    // The image resets its watchdog. This one is told to, and does not.
    await console.check('pidof watchdog && killall watchdog');
    await console.check('until ! pidof watchdog; do usleep 100000; done; watchdog -T 2 -t 900 /dev/watchdog');
    expect(await next(3)).toMatchObject({ type: 'vm.hung' });
    console.send('echo c > /proc/sysrq-trigger\n');
    expect(await next(4)).toMatchObject({ type: 'vm.panicked', data: { message: 'sysrq triggered crash' } });
    expect((await daemon.client.getVm('alpha')).state).toBe('running');
    console.close();
    stream.close();
  },
  5 * MINUTE_MS,
);
