import { ok, refuse, requireMachine, type MachineContext, type Verb } from '../verb.ts';

export const stop: Verb<MachineContext> = {
  name: 'stop',
  usage: 'stop',
  help: 'Pause the VM; it will do nothing until it receives a "go"',
  async run(context) {
    requireMachine(context);
    if (context.instance.state === 'stopped') return refuse('Already stopped');
    await context.instance.stop();
    return ok('stopped');
  },
};
