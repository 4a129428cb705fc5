import { ok, refuse, requireMachine, type MachineContext, type Verb } from '../verb.ts';

export const go: Verb<MachineContext> = {
  name: 'go',
  usage: 'go',
  help: 'Continue the VM after a "stop"',
  async run(context) {
    requireMachine(context);
    if (context.instance.state !== 'stopped') return refuse('Not stopped');
    await context.instance.go();
    return ok();
  },
};
