import { ok, requireMachine, type Verb } from '../verb.ts';

export const halt: Verb = {
  name: 'halt',
  usage: 'halt',
  help: 'Halt the VM at once',
  async run(context) {
    requireMachine(context);
    await context.instance.halt();
    return ok();
  },
};
