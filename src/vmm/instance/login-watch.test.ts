import { expect, test } from 'vitest';
import { LoginWatch } from './login-watch.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

test('a prompt is seen once for each boot, in whatever pieces it comes', () => {
  const seen: string[] = [];
  const watch = new LoginWatch((console) => seen.push(console));
  watch.output('ttyS0', bytes('last login: today\r\nweb lo'));
  watch.output('hvc0', bytes('login: \r\n'));
  expect(seen).toEqual([]);
  watch.output('ttyS0', bytes('gin: '));
  watch.output('ttyS0', bytes('root\r\nweb login: '));
  watch.output('hvc0', bytes('web login: '));
  expect(seen).toEqual(['ttyS0']);
  watch.rebooted();
  watch.output('hvc0', bytes(`${'x'.repeat(1000)}\r\nweb login: `));
  expect(seen).toEqual(['ttyS0', 'hvc0']);
});
