import { ok, type Verb } from '../verb.ts';

/** UML lists it second. */
const FIRST = ['version', 'help'];

/** UML's own text, each verb's with the verb. */
export function makeHelp(verbs: () => readonly Verb[]): Verb {
  return {
    name: 'help',
    help: '    help - Print this message \n',
    run() {
      const all = [...verbs()];
      const first = FIRST.flatMap((name) => all.filter((verb) => verb.name === name));
      const rest = all.filter((verb) => !first.includes(verb));
      return ok(`Commands: \n${[...first, ...rest].map(({ help }) => help).join('')}`);
    },
  };
}
