import koffi from 'koffi';
import { afterEach, expect, test, vi } from 'vitest';
import { madvise, mallocTrim } from './libc.ts';
import { dropProgramPages } from './program-pages.ts';
import { collectGarbage } from './v8.ts';

afterEach(() => vi.restoreAllMocks());

test('nothing is looked for in libraries once a thread runs: koffi would not survive its end', () => {
  const load = vi.spyOn(koffi, 'load');
  collectGarbage();
  dropProgramPages();
  expect([mallocTrim(0), madvise(0, 0, 0)]).toEqual([expect.any(Number), 0]);
  expect(load).not.toHaveBeenCalled();
});
