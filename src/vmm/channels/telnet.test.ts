import { expect, test } from 'vitest';
import { encodeTelnet, TelnetDecoder, windowSizeMessage } from './telnet.ts';

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

test('data are taken out of commands, options and what is in between, in any pieces', () => {
  const stream = Buffer.from([
    ...Buffer.from('ls\r\0'),
    ...[255, 253, 1, 255, 251, 31, 255, 241],
    ...windowSizeMessage(255, 65535),
    ...Buffer.from('a'),
    ...[255, 255],
    ...Buffer.from('\r\nb\r\r\n'),
  ]);
  for (const piece of [1, 2, 3, stream.length]) {
    const decoder = new TelnetDecoder();
    let data = '';
    const sizes: unknown[] = [];
    for (let at = 0; at < stream.length; at += piece) {
      const { bytes, size } = decoder.decode(stream.subarray(at, at + piece));
      data += text(bytes);
      if (size !== undefined) sizes.push(size);
    }
    expect(data).toBe('ls\ra\xff\rb\r\r');
    expect(sizes).toEqual([{ columns: 255, rows: 65535 }]);
  }
});

test('a subnegotiation that never ends takes no memory, and sizes of nothing are none', () => {
  const decoder = new TelnetDecoder();
  decoder.decode(Uint8Array.of(255, 250, 31));
  for (let i = 0; i < 100; i++) expect(decoder.decode(new Uint8Array(10_000)).bytes).toHaveLength(0);
  expect(decoder.decode(Uint8Array.of(255, 240, 65))).toEqual({ bytes: Uint8Array.of(65), size: undefined });
  expect(new TelnetDecoder().decode(windowSizeMessage(0, 25)).size).toBeUndefined();
});

test('the escape byte is doubled', () => {
  expect(encodeTelnet(Uint8Array.of(1, 255, 2))).toEqual(Uint8Array.of(1, 255, 255, 2));
  expect(encodeTelnet(Uint8Array.of(1, 2))).toEqual(Uint8Array.of(1, 2));
});
