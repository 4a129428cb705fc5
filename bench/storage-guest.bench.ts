/**
 * The disk of a guest, next to QEMU's (storage/guest-disk.ts). Run with
 * `node bench/storage-guest.bench.ts [--runs N] [--mib N] [--random N] [--only umlaut|qemu] [--job NAME]`; needs gcc and libc6-dev.
 */
import { parseArgs } from 'node:util';
import { BenchKit } from './kit.ts';
import { guestDisk } from './storage/guest-disk.ts';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '3' },
    mib: { type: 'string', default: '128' },
    random: { type: 'string', default: '65536' },
    only: { type: 'string' },
    job: { type: 'string', default: '' },
  },
});
const note = (text: string): void => void process.stderr.write(`${text}\n`);
const kit = await BenchKit.open(note);
const report = await guestDisk(kit, {
  engines: kit.engines.filter((engine) => values.only === undefined || values.only === engine),
  runs: Number(values.runs),
  mib: Number(values.mib),
  random: Number(values.random),
  job: values.job,
  note,
});
process.stdout.write(`${report}\n`);
