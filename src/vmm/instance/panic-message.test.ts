import { expect, test } from 'vitest';
import { panicMessageIn } from './panic-message.ts';

const message = (text: string): string | null => panicMessageIn(new TextEncoder().encode(text));

test('is what the kernel says, without the marks of the end', () => {
  const first =
    '[ 1.5] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000000\r\n[ 1.6] CPU: 0\r\n';
  expect(message(first)).toBe('Attempted to kill init! exitcode=0x00000000');
  expect(message(`${first}[ 1.7] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---\r\n`)).toBe(
    'sysrq triggered crash',
  );
  expect(message('all is well\r\n')).toBeNull();
});
