import type { VmStats } from '../contracts/api/index.ts';
import { formatBytes, formatFields } from './format.ts';

/** Counters of a VM's run, one line per device. */
export function formatStats(stats: VmStats): string {
  const fields: [string, string][] = [
    ['instructions', stats.instructions.toLocaleString('en')],
    ['wall time', `${stats.wall_seconds.toFixed(1)} s`],
    ['CPU time', `${stats.cpu_seconds.toFixed(1)} s`],
  ];
  for (const disk of stats.disks) {
    fields.push([disk.device, diskLine(disk)]);
  }
  for (const nic of stats.nics) {
    const received = `${nic.rx_frames} frames in (${formatBytes(nic.rx_bytes)})`;
    const dropped = Object.entries(nic.drops).filter(([, count]) => count > 0);
    const sent = `${nic.tx_frames} out (${formatBytes(nic.tx_bytes)})`;
    const parts = [received, sent, ...dropped.map(([cause, count]) => `${cause} ${count}`)];
    fields.push([nic.device, parts.join(', ')]);
  }
  return formatFields(fields);
}

type DiskStats = VmStats['disks'][number];

function diskLine(disk: DiskStats): string {
  const parts = [
    timed(disk.reads, 'reads', disk.read_seconds, disk.read_bytes),
    timed(disk.writes, 'writes', disk.write_seconds, disk.written_bytes),
    timed(disk.flushes, 'flushes', disk.flush_seconds),
  ];
  if (disk.discards > 0)
    parts.push(timed(disk.discards, 'discards', disk.discard_seconds, disk.discarded_bytes));
  if (disk.zeroes > 0) parts.push(timed(disk.zeroes, 'zeroings', disk.zero_seconds, disk.zeroed_bytes));
  if (disk.errors > 0) parts.push(`${disk.errors} errors`);
  if (disk.throttled > 0) {
    parts.push(`${disk.throttled} throttled for ${disk.throttled_seconds.toFixed(1)} s together`);
  }
  if (disk.held > 0) parts.push(`${disk.held} held`);
  return parts.join(', ');
}

/** With the bytes, and the mean time where it is to be seen. */
function timed(requests: number, what: string, seconds: number, bytes?: number): string {
  const facts: string[] = [];
  if (bytes !== undefined) facts.push(formatBytes(bytes));
  if (requests > 0) facts.push(`${((seconds / requests) * 1000).toFixed(2)} ms each`);
  return `${requests} ${what}${facts.length === 0 ? '' : ` (${facts.join(', ')})`}`;
}
