/** The default guest, from the start of the emulator to its login prompt. */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { runTool } from '../../src/images/tools.ts';
import { testImage } from '../../test/support/test-image.ts';
import { Samples, table } from '../figures.ts';
import { type BenchDisk, MEMORY_MIB } from '../kit.ts';
import { inTurns, type Part } from './part.ts';

const PROMPT = 'login: ';
const WHAT = 'default guest to its login prompt';

export const login: Part = {
  name: 'login',
  title: 'Default guest',
  async run(context) {
    const { kit } = context;
    const { kernel, initrd, disk, append } = await testImage();
    const folder = mkdtempSync(join(kit.folder, 'login-'));
    const samples = new Samples();
    try {
      await inTurns(context, 'login', async (engine, run) => {
        const used: Required<BenchDisk> = {
          file: disk,
          cow: join(folder, `${run}.cow`),
          qcow2: join(folder, `${run}.qcow2`),
        };
        if (engine === 'qemu') {
          await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', disk, '-F', 'raw', used.qcow2]);
        }
        const guest = { kernel, initrd: initrd!, append: append!, memoryMib: MEMORY_MIB, disks: [used] };
        const { seconds } = await kit.until(engine, guest, PROMPT, () => undefined);
        samples.add(engine, new Map([[WHAT, { seconds, result: '' }]]));
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
    return table(samples.rows);
  },
};
