import { refuse, type MachineContext, type Verb } from '../verb.ts';

/** Stacks of the guest's processes are not read from outside. */
export const stack: Verb<MachineContext> = {
  name: 'stack',
  usage: 'stack <pid>',
  help: "Return the kernel stack of the guest's process (not available)",
  run: (_context, argument) => refuse(/^\d/.test(argument) ? 'Stack not available' : 'Please specify a pid'),
};
