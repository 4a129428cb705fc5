import { ok, requireMachine, type MachineContext, type Verb } from '../verb.ts';

export const reboot: Verb<MachineContext> = {
  name: 'reboot',
  usage: 'reboot',
  help: 'Reset the VM and boot again',
  async run(context) {
    requireMachine(context);
    await context.instance.reboot();
    return ok();
  },
};
