/** From a command's text to its verb. */
import type { MconsoleResult } from '../contracts/api/index.ts';
import { type MachineContext, refuse, type Verb } from './verb.ts';

/** As UML, the first verb that begins the text is meant. */
export async function dispatch<Context extends MachineContext>(
  verbs: readonly Verb<Context>[],
  context: Context,
  command: string,
): Promise<MconsoleResult> {
  const verb = verbs.find(({ name }) => command.startsWith(name));
  if (verb === undefined) return refuse('Unknown command');
  const argument = command.slice(verb.name.length);
  return await verb.run(context, verb.verbatim === true ? argument.slice(1) : argument.trim());
}
