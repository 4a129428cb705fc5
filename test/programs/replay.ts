/**
 * Runs one generated program again, makes it as small as it still fails, and shows where:
 * node test/programs/replay.ts --seed N [--setting NAME] [--limit INSTRUCTIONS] [--no-shrink]
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { lockstep, type Outcome } from './lockstep.ts';
import { ProgramMachine } from './machine.ts';
import { PLACE } from './places.ts';
import { generate, KINDS, type Program } from './program.ts';
import { REFERENCE, SETTINGS } from './settings.ts';
import { shrink } from './shrink.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    setting: { type: 'string', default: 'compiler' },
    limit: { type: 'string', default: '40000' },
    shrink: { type: 'boolean', default: true },
  },
  allowNegative: true,
});
const options = SETTINGS[values.setting];
if (values.seed === undefined || options === undefined) {
  console.error(`give --seed, and perhaps --setting of: ${Object.keys(SETTINGS).join('; ')}`);
  process.exit(2);
}
const seed = Number(values.seed);
const reference = new ProgramMachine(REFERENCE);
const subject = new ProgramMachine(options);
const run = (program: Program): Outcome => lockstep(program, subject, reference, Number(values.limit));

/** The code by objdump, as far as it was written. */
function disassembly(program: Program): string {
  const folder = mkdtempSync(join(tmpdir(), 'umlaut-program-'));
  const file = join(folder, 'code');
  writeFileSync(file, program.code);
  const { bits } = KINDS[program.kind];
  const mode = bits === 64 ? 'i386:x86-64' : 'i386';
  const place = `0x${PLACE.CODE.toString(16)}`;
  const result = spawnSync(
    'objdump',
    ['-D', '-b', 'binary', '-m', mode, '-M', 'intel', `--adjust-vma=${place}`, file],
    {
      encoding: 'utf8',
    },
  );
  rmSync(folder, { recursive: true });
  return result.stdout ?? 'objdump is not installed (Debian package binutils)';
}

const first = generate(seed);
const outcome = run(first);
console.log(
  `seed ${seed}: ${first.kind}, ${first.statements.length} statements, ${outcome.retired} instructions`,
);
if (outcome.difference === undefined) console.log('no difference');
else {
  const small = values.shrink ? shrink(seed, (program) => run(program).difference !== undefined) : first;
  console.log(`with the statements ${small.statements.join(' ')}:`);
  console.log(disassembly(small));
  console.log(run(small).difference);
}
