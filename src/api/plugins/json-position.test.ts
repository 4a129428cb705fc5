import { describe, expect, it } from 'vitest';
import { jsonErrorPosition } from './json-position.ts';

describe('jsonErrorPosition', () => {
  it.each([
    ['{"a": x}', 6],
    ['{"a" 1}', 5],
    ['{"a": 1,}', 8],
    ['{a: 1}', 1],
    ["{'a': 1}", 1],
    ['[1, 2', 5],
    ['{"a": "b', 8],
    ['{"a": "b\n"}', 8],
    ['{"a": "\\q"}', 7],
    ['{"a": 01}', 7],
    ['[1] 2', 4],
    ['[1 2]', 3],
    ['[}', 1],
    ['', 0],
  ])('of %j is %i', (text, position) => {
    expect(() => JSON.parse(text)).toThrow();
    expect(jsonErrorPosition(text)).toBe(position);
  });

  it('goes to the end of what is JSON, however deep', () => {
    const text = `${'['.repeat(100_000)}{"a": [true, null, -1.5e3, "\\u00e9"]}${']'.repeat(100_000)}`;
    expect(jsonErrorPosition(text)).toBe(text.length);
  });
});
