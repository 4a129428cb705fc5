import { AppError } from '../../contracts/errors.ts';
import { ok, refuse, requireMachine, type Verb } from '../verb.ts';

export const stack: Verb = {
  name: 'stack',
  help: '    stack <pid> - returns the stack of the specified pid\n',
  async run(context, argument) {
    const [digits] = /^\d{1,9}/.exec(argument) ?? [];
    if (digits === undefined) return refuse('Please specify a pid');
    requireMachine(context);
    try {
      // INVARIANT: the machine answers a `stack` request with text.
      return ok((await context.instance.request({ type: 'stack', pid: Number(digits) })) as string);
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      if (error.code === 'not_found') return refuse("Couldn't find that pid");
      if (error.code === 'unsupported') return refuse(`Stack not available: ${error.message}`);
      throw error;
    }
  },
};
