import { ok, refuse, requireMachine, type Verb } from '../verb.ts';

export const go: Verb = {
  name: 'go',
  help: "    go - continue the UML after a 'stop' \n",
  async run(context) {
    requireMachine(context);
    if (context.instance.state !== 'stopped') return refuse('Not stopped');
    await context.instance.go();
    return ok();
  },
};
