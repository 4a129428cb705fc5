/** From the start of the emulator until the guest's /init runs. */
import { Samples, table } from '../figures.ts';
import { inTurns, type Part } from './part.ts';

const FIRST_LINE = 'FIRST-LINE-OF-INIT';
const WHAT = 'Debian cloud kernel to the first line of /init';

export const boot: Part = {
  name: 'boot',
  title: 'Boot',
  async run(context) {
    const { kit } = context;
    const initrd = kit.initrd('boot', `$B echo ${FIRST_LINE}`);
    const samples = new Samples();
    await inTurns(context, 'boot', async (engine) => {
      const { seconds } = await kit.until(engine, { initrd }, FIRST_LINE, () => undefined);
      samples.add(engine, new Map([[WHAT, { seconds, result: '' }]]));
    });
    return table(samples.rows);
  },
};
