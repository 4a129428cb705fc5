/** Disks: a guest's next to QEMU's, chains of layers, snapshots, backups. */
import { tmpdir } from 'node:os';
import { backup } from '../storage/backup.ts';
import { guestDisk } from '../storage/guest-disk.ts';
import { layers } from '../storage/layers.ts';
import type { Part } from './part.ts';

/** One turn takes about a minute. */
const RUNS_MAX = 2;
const GUEST = { mib: 128, random: 65_536, job: '' };
const MIB = 512;

export const storage: Part = {
  name: 'storage',
  title: 'Storage',
  async run({ kit, runs, note }) {
    const turns = Math.min(runs, RUNS_MAX);
    const guest = await guestDisk(kit, { ...GUEST, engines: kit.engines, runs: turns, note });
    note('storage: layers and snapshots');
    const chains = await layers(MIB, tmpdir());
    note('storage: backups');
    const backups = await backup({ mib: MIB, folder: tmpdir() });
    return [
      `A guest's disk, ours a copy-on-write file and QEMU's a qcow2 overlay over the same raw file, cache mode writeback; median of ${turns} runs, a request at a time unless it says q16 (sequential: four of 256 KiB), each after two seconds of the same elsewhere on the disk. Above 1 means that we are faster.`,
      guest,
      'Chains of layers, and snapshots of a disk that is written to:',
      chains,
      `Backups of a disk of ${MIB} MiB that is in the page cache, half of it an executable program and half random bytes:`,
      backups,
    ].join('\n\n');
  },
};
