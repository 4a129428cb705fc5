import { expect, it } from 'vitest';
import { formatAge, formatBytes, formatFields, formatTable, printable, printableLines } from './format.ts';
import { parseBytes, parseTcpPort } from './parse.ts';

it.each([
  [0, '0'],
  [1023, '1023'],
  [1024, '1K'],
  [1536, '1.5K'],
  [268_435_456, '256M'],
  [1024 ** 5, '1P'],
])('formats %i bytes as %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

it.each([
  ['4096', 4096],
  ['1K', 1024],
  ['256M', 268_435_456],
  ['256MiB', 268_435_456],
  ['1.5g', 1.5 * 1024 ** 3],
])('reads %s', (text, bytes) => {
  expect(parseBytes(text)).toBe(bytes);
});

it.each(['', 'M', '-1', '1X', '1e3', '0.3', '99999999T'])('refuses the size "%s"', (text) => {
  expect(() => parseBytes(text)).toThrow('Write a size such as 256M');
});

it('refuses a port that is none', () => {
  expect(parseTcpPort('8470')).toBe(8470);
  expect(() => parseTcpPort('65536')).toThrow('0 to 65535');
});

it.each([
  [59, '59s'],
  [60, '1m'],
  [3600, '1h'],
  [86_400, '1d'],
  [-5, '0s'],
])('formats an age of %i seconds as %s', (seconds, text) => {
  const now = Date.parse('2026-11-01T12:00:00Z');
  expect(formatAge(new Date(now - seconds * 1000).toISOString(), now)).toBe(text);
});

it('aligns columns and marks empty cells', () => {
  expect(
    formatTable(
      ['A', 'LONG'],
      [
        ['xyz', ''],
        ['y', '1'],
      ],
    ),
  ).toBe('A    LONG\nxyz  -\ny    1\n');
  expect(
    formatFields([
      ['a', ''],
      ['long', 'x'],
    ]),
  ).toBe('a     -\nlong  x\n');
});

it('shows control and bidirectional characters by number', () => {
  expect(printable('a\x1b[31mb\u202ec\n')).toBe('a\\u{1b}[31mb\\u{202e}c\\u{a}');
});

it('keeps the lines and tabs of a longer text', () => {
  expect(printableLines('a\tb\r\n\x1b]0;x\x07\n')).toBe('a\tb\n\\u{1b}]0;x\\u{7}\n');
});
