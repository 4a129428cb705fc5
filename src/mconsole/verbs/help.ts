import { type MachineContext, ok, type Verb } from '../verb.ts';

/** Made from the table of verbs, so that it cannot be out of date. */
/** What is listed of a verb. */
type Listed = Pick<Verb, 'usage' | 'help'>;

export function makeHelp(verbs: () => readonly Listed[]): Verb<MachineContext> {
  return {
    name: 'help',
    usage: 'help',
    help: 'Print this message',
    run: () =>
      ok(
        `Commands: \n${verbs()
          .map((verb) => `    ${verb.usage} - ${verb.help}\n`)
          .join('')}`,
      ),
  };
}
