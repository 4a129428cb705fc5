import { expect, test } from 'vitest';
import { Lines } from './lines.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

test('what is tapped is of one line, though a kernel prints on two', () => {
  const lines = new Lines(new Map());
  let tapped = '';
  const untap = lines.tap((piece) => {
    tapped += new TextDecoder().decode(piece);
  });
  for (const text of ['HELP : ', 'reboot(b)']) {
    lines.output('hvc0', bytes(text));
    lines.output('ttyS0', bytes(text));
  }
  untap();
  lines.output('hvc0', bytes('later'));
  expect(tapped).toBe('HELP : reboot(b)');
});

test('a panic is found in the end of what was printed', () => {
  const lines = new Lines(new Map());
  expect(lines.panicMessage()).toBeNull();
  lines.output('ttyS0', bytes('Kernel panic - not syncing: Fatal exception'));
  lines.output('ttyS0', bytes(' in interrupt\r\nCPU: 0'));
  expect(lines.panicMessage()).toBe('Fatal exception in interrupt');
  lines.output('ttyS0', bytes('x'.repeat(20_000)));
  expect(lines.panicMessage()).toBeNull();
});
