import { ok, type Verb } from '../verb.ts';

export const log: Verb = {
  name: 'log',
  help: '    log <string> - make UML enter <string> into the kernel log\n',
  verbatim: true,
  run(target, text) {
    target.log(text);
    return ok();
  },
};
