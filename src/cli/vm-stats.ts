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
    const reads = `${disk.reads} reads (${formatBytes(disk.read_bytes)})`;
    const writes = `${disk.writes} writes (${formatBytes(disk.written_bytes)})`;
    fields.push([disk.device, `${reads}, ${writes}, ${disk.flushes} flushes`]);
  }
  for (const nic of stats.nics) {
    const received = `${nic.rx_frames} frames in (${formatBytes(nic.rx_bytes)})`;
    fields.push([nic.device, `${received}, ${nic.tx_frames} out (${formatBytes(nic.tx_bytes)})`]);
  }
  return formatFields(fields);
}
