import { AppError } from '../../contracts/errors.ts';
import { ok, refuse, requireMachine, type Verb } from '../verb.ts';

/** UML begins the reply with an empty line. */
export const proc: Verb = {
  name: 'proc',
  help: "    proc <file> - returns the contents of the UML's /proc/<file>\n",
  async run(context, argument) {
    requireMachine(context);
    try {
      // INVARIANT: the machine answers a `proc` request with bytes.
      const contents = (await context.instance.request({ type: 'proc', file: argument })) as Uint8Array;
      return ok(`\n${Buffer.from(contents).toString('utf8')}`);
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      if (error.code === 'not_found') return refuse('Failed to open file');
      if (error.code === 'unsupported') {
        const remedy = error.remedy === undefined ? '' : `; ${error.remedy}`;
        return refuse(`Read of file failed: ${error.message}${remedy}`);
      }
      throw error;
    }
  },
};
