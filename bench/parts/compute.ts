/** The compute suite (bench/compute/suite.c). */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { parseTiming, Samples, table } from '../figures.ts';
import type { BenchKit } from '../kit.ts';
import { inTurns, type Part } from './part.ts';

export const NO_COMPILER = 'Not run: it needs gcc and libc6-dev.';

/** An initial RAM disk that runs the suite, undefined without a compiler. `then` are commands behind it. */
export function suiteInitrd(kit: BenchKit, programs: readonly string[], then = ''): string | undefined {
  const suite = kit.compile('suite', 'bench/compute/suite.c', ['-lm']);
  if (suite === undefined) return undefined;
  const mounts = '$B mount -t proc proc /proc; $B mount -t devtmpfs dev /dev';
  const content = readFileSync(suite);
  const file = { kind: 'file', path: 'bin/suite', content, executable: true } as const;
  return kit.initrd('suite', `${mounts}; /bin/suite ${programs.join(' ')}\n${then}`, [file]);
}

export const compute: Part = {
  name: 'compute',
  title: 'Compute suite',
  async run(context) {
    const { kit, runs, note, programs } = context;
    const initrd = suiteInitrd(kit, programs);
    if (initrd === undefined) return NO_COMPILER;
    const suite = kit.compile('suite', 'bench/compute/suite.c', ['-lm'])!;
    const samples = new Samples();
    for (let run = 1; run <= runs; run++) {
      note(`compute: native, run ${run} of ${runs}`);
      samples.add('native', parseTiming(spawnSync(suite, programs, { encoding: 'latin1' }).stdout));
    }
    await inTurns(context, 'compute', (engine) => {
      samples.add(engine, parseTiming(kit.run(engine, { initrd })));
    });
    return table(samples.rows);
  },
};
