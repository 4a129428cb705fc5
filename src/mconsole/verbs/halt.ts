import { ok, requireMachine, type Verb } from '../verb.ts';

export const halt: Verb = {
  name: 'halt',
  help: '    halt - Halt UML \n',
  async run(context) {
    requireMachine(context);
    await context.instance.halt();
    return ok();
  },
};
