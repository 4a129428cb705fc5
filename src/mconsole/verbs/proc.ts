import { refuse, type MachineContext, type Verb } from '../verb.ts';

/** Files of the guest's /proc are not read from outside: the answer is that of a UML kernel without it. */
export const proc: Verb<MachineContext> = {
  name: 'proc',
  usage: 'proc <file>',
  help: "Return the contents of the guest's /proc/<file> (not available)",
  run: () => refuse('Proc not available'),
};
