import { ok, type Verb } from '../verb.ts';

export const version: Verb = {
  name: 'version',
  help: '    version - Get kernel version \n',
  run: (target) => ok(target.version()),
};
