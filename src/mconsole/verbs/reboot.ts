import { ok, requireMachine, type Verb } from '../verb.ts';

export const reboot: Verb = {
  name: 'reboot',
  usage: 'reboot',
  help: 'Reset the VM and boot again',
  async run(context) {
    requireMachine(context);
    await context.instance.reboot();
    return ok();
  },
};
