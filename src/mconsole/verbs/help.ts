import { ok, type Verb } from '../verb.ts';

/** Made from the table of verbs, so that it cannot be out of date. */
export function makeHelp(verbs: () => readonly Verb[]): Verb {
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
