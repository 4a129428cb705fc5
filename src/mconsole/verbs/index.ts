/** UML's verbs, a file each and a row here. */
import type { MconsoleResult, MconsoleVerb } from '../../contracts/api/index.ts';
import type { Target } from '../target.ts';
import { refuse, type Verb } from '../verb.ts';
import { cad } from './cad.ts';
import { config } from './config.ts';
import { go } from './go.ts';
import { halt } from './halt.ts';
import { makeHelp } from './help.ts';
import { log } from './log.ts';
import { proc } from './proc.ts';
import { reboot } from './reboot.ts';
import { remove } from './remove.ts';
import { stack } from './stack.ts';
import { stop } from './stop.ts';
import { sysrq } from './sysrq.ts';
import { version } from './version.ts';

/** In UML's order, which matters: the first verb that begins the text is meant. */
const VERBS: readonly Verb[] = [
  version,
  halt,
  reboot,
  config,
  remove,
  sysrq,
  makeHelp(() => VERBS),
  cad,
  stop,
  go,
  log,
  proc,
  stack,
];

/** Carries out a command's text. Unknown ones are answered, not thrown. */
export async function dispatch(target: Target, command: string): Promise<MconsoleResult> {
  const verb = VERBS.find(({ name }) => command.startsWith(name));
  if (verb === undefined) return refuse('Unknown command');
  const argument = command.slice(verb.name.length);
  return await verb.run(target, verb.verbatim === true ? argument.slice(1) : argument.trim());
}

export async function dispatchVerb(
  target: Target,
  name: MconsoleVerb,
  argument: string,
): Promise<MconsoleResult> {
  // INVARIANT: the table has a row for every MconsoleVerb; test/api/mconsole.test.ts walks them all.
  const verb = VERBS.find((row) => row.name === name)!;
  return await verb.run(target, argument);
}
