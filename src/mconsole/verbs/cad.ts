import { ok, requireMachine, type Verb } from '../verb.ts';

export const cad: Verb = {
  name: 'cad',
  help: '    cad - invoke the Ctrl-Alt-Del handler \n',
  async run(context) {
    requireMachine(context);
    await context.instance.request({ type: 'cad' });
    return ok();
  },
};
