/** Small C programs for guests. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { requireTool, skipTest } from './tools.ts';

/** Needs nothing of the guest but its kernel. The current test is skipped where it cannot be made. */
export function staticProgram(folder: string, name: string, source: string): Buffer {
  const gcc = requireTool('gcc', 'build-essential');
  const [file, program] = [join(folder, `${name}.c`), join(folder, name)];
  writeFileSync(file, source);
  const made = spawnSync(gcc, ['-static', '-O1', '-o', program, file], { encoding: 'utf8' });
  if (made.status === 0) return readFileSync(program);
  return skipTest(
    `gcc makes no static program (Debian package build-essential): ${made.stderr.slice(0, 200)}`,
  );
}
