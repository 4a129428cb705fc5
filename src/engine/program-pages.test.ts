import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';

const PROGRAM = `
import { readFileSync } from 'node:fs';
import { dropProgramPages } from ${JSON.stringify(new URL('./program-pages.ts', import.meta.url).href)};
const resident = () => Number(/^RssFile:\\s+(\\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'))[1]);
const work = () => JSON.parse(JSON.stringify({ text: 'abc'.repeat(1000).replaceAll('b', 'x'), n: [..."12"].map(Number) }));
const before = [resident(), JSON.stringify(work())];
dropProgramPages();
const after = [resident(), JSON.stringify(work())];
gc();
console.log(JSON.stringify({ dropped: before[0] - after[0], same: before[1] === after[1] && after[1] === JSON.stringify(work()) }));
`;

test('pages of the program go, and what is needed of them comes back', () => {
  const flags = ['--disable-warning=ExperimentalWarning', '--expose-gc', '--input-type=module'];
  const { stdout, stderr } = spawnSync(process.execPath, [...flags, '--eval', PROGRAM], { encoding: 'utf8' });
  expect(stderr).toBe('');
  const { dropped, same } = JSON.parse(stdout) as { dropped: number; same: boolean };
  expect(same).toBe(true);
  expect(dropped).toBeGreaterThan(5000);
});
