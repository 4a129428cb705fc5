import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';

/** Optimizes a reader of short-lived objects, collects, and prints whether it is optimized still. */
const program = (keep: boolean): string => `
import { shapeKeeper } from ${JSON.stringify(new URL('./shapes.ts', import.meta.url).href)};
const keepShape = shapeKeeper();
class Short { constructor(a, b) { this.a = a; this.b = b; ${keep ? 'keepShape(this);' : ''} } }
function read(object) { return object.a + object.b; }
function work() { let sum = 0; for (let n = 0; n < 100; n++) sum += read(new Short(n, 1)); return sum; }
%PrepareFunctionForOptimization(read);
work();
%OptimizeMaglevOnNextCall(read);
work();
const isOptimized = () => (%GetOptimizationStatus(read) & (1 << 4 | 1 << 5 | 1 << 15)) !== 0;
const before = isOptimized();
for (let n = 0; n < 8; n++) { await new Promise(setImmediate); gc(); }
console.log(JSON.stringify([before, isOptimized()]));
`;

function run(keep: boolean): unknown {
  const flags = ['--disable-warning=ExperimentalWarning', '--expose-gc', '--allow-natives-syntax'];
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [...flags, '--input-type=module', '--eval', program(keep)],
    {
      encoding: 'utf8',
    },
  );
  return stdout === '' ? stderr : JSON.parse(stdout);
}

test('code for objects of which none is alive is optimized still after collections', () => {
  expect(run(true)).toEqual([true, true]);
});

test('V8 forgets it without', () => {
  expect(run(false)).toEqual([true, false]);
});
