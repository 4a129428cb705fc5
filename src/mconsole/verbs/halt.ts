import { ok, requireMachine, type MachineContext, type Verb } from '../verb.ts';

export const halt: Verb<MachineContext> = {
  name: 'halt',
  usage: 'halt',
  help: 'Halt the VM at once',
  async run(context) {
    requireMachine(context);
    await context.instance.halt();
    return ok();
  },
};
