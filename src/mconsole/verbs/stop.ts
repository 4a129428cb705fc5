import { ok, refuse, requireMachine, type Verb } from '../verb.ts';

export const stop: Verb = {
  name: 'stop',
  help: "    stop - pause the UML; it will do nothing until it receives a 'go' \n",
  async run(context) {
    requireMachine(context);
    if (context.instance.state === 'stopped') return refuse('Already stopped');
    await context.instance.stop();
    return ok('stopped');
  },
};
