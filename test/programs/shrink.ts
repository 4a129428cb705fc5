/** Makes a failing program smaller: leaves out statements as long as it still fails. */
import { generate, type Program } from './program.ts';

/** @param fails whether a program shows the fault */
export function shrink(seed: number, fails: (program: Program) => boolean): Program {
  const omitted = new Set<string>();
  let program = generate(seed);
  // whole functions and loops first: nested statements have the name of what they are in as a prefix
  for (let size = Math.ceil(program.statements.length / 2); size >= 1; ) {
    const reduced = withoutSome(program, seed, omitted, size, fails);
    if (reduced === undefined) size = size === 1 ? 0 : Math.ceil(size / 2);
    else program = reduced;
  }
  return program;
}

/** The first program without `size` statements in a row that still fails. */
function withoutSome(
  program: Program,
  seed: number,
  omitted: Set<string>,
  size: number,
  fails: (program: Program) => boolean,
): Program | undefined {
  const { statements } = program;
  for (let first = 0; first < statements.length; first += size) {
    const chunk = statements.slice(first, first + size);
    const candidate = generate(seed, new Set([...omitted, ...chunk]));
    if (candidate.statements.length >= statements.length || !fails(candidate)) continue;
    for (const name of chunk) omitted.add(name);
    return candidate;
  }
  return undefined;
}
