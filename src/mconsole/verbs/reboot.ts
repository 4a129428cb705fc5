import { ok, requireMachine, type Verb } from '../verb.ts';

export const reboot: Verb = {
  name: 'reboot',
  help: '    reboot - Reboot UML \n',
  async run(context) {
    requireMachine(context);
    await context.instance.reboot();
    return ok();
  },
};
