import { AppError } from '../../contracts/errors.ts';
import { ok, refuse, requireMachine, type MachineContext, type Verb } from '../verb.ts';

/** UML begins the reply with an empty line. */
export const proc: Verb<MachineContext> = {
  name: 'proc',
  usage: 'proc <file>',
  help: "Return the contents of the guest's /proc/<file>, read from outside",
  async run(context, argument) {
    requireMachine(context);
    try {
      // INVARIANT: the machine answers a `proc` request with bytes.
      const contents = (await context.instance.request({ type: 'proc', file: argument })) as Uint8Array;
      return ok(`\n${Buffer.from(contents).toString('utf8')}`);
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      if (error.code === 'not_found') return refuse('Failed to open file');
      if (error.code === 'unsupported') return refuse(`Read of file failed: ${error.message}`);
      throw error;
    }
  },
};
