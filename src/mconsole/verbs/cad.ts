import { ok, requireMachine, type MachineContext, type Verb } from '../verb.ts';

export const cad: Verb<MachineContext> = {
  name: 'cad',
  usage: 'cad',
  help: 'Invoke the Ctrl-Alt-Del handler',
  async run(context) {
    requireMachine(context);
    await context.instance.request({ type: 'cad' });
    return ok();
  },
};
