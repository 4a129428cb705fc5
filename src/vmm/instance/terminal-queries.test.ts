import { describe, expect, it } from 'vitest';
import { ConsoleHub } from './console-hub.ts';
import { withoutQueries } from './terminal-queries.ts';

const rest = (text: string): string => Buffer.from(withoutQueries(Buffer.from(text))).toString();

describe('questions to a terminal', () => {
  it.each([
    ['\u001b[6n', '\u001b[5n', '\u001b[?6n'],
    ['\u001b[c', '\u001b[0c', '\u001b[>c', '\u001b[>0c', '\u001b[=c', '\u001bZ', '\u0005'],
    ['\u001b[14t', '\u001b[18t', '\u001b[21t', '\u001b[x', '\u001b[?25$p', '\u001b[>0q', '\u001b[?u'],
    ['\u001b]11;?\u0007', '\u001b]4;1;?\u001b\\', '\u001bP$qm\u001b\\', '\u001bP+q544e\u001b\\'],
  ])('are left out: %j', (...queries) => {
    for (const query of queries)
      expect(rest(`before ${query}after`), JSON.stringify(query)).toBe('before after');
  });

  it.each([
    'plain text, c and n; ä€😀\r\n',
    '\u001b[1;31mred\u001b[0m\u001b[2J\u001b[H\u001b[10;20H\u001b[?25l\u001b[?1049h',
    // The shape of Linux's cursor, a larger window, a title, a colour: no questions.
    '\u001b[?17;0;64c\u001b[8;30;100t\u001b]0;what?\u0007\u001b]11;#000000\u0007',
  ])('are told from what is none: %j', (text) => expect(rest(text)).toBe(text));

  it('are answered by who is there when they are asked, and by nobody who comes later', () => {
    const hub = new ConsoleHub({ input: () => undefined, taken: () => undefined, resize: () => undefined });
    const shown: string[] = ['', ''];
    const viewer = (n: number) => ({
      output: (bytes: Uint8Array) => {
        shown[n] += Buffer.from(bytes).toString();
        return true;
      },
      dropped: () => undefined,
    });
    hub.attach('ttyS0', viewer(0), true);
    hub.output('ttyS0', Buffer.from('$ \u001b[6n'));
    hub.attach('ttyS0', viewer(1), true);
    expect(shown).toEqual(['$ \u001b[6n', '$ ']);
    // So much is sent to who comes.
    expect(hub.list()[0]).toMatchObject({ name: 'ttyS0', scrollback_bytes: 2 });
  });
});
