/** VMs and their counters as the API shows them. */
import type { CloudInit, Disk, ErrorBody, Nic, Vm, VmStats } from '../../contracts/api/index.ts';
import type { MachineStats } from '../../contracts/ports.ts';
import type { ShareRow, VmRow } from '../../db/index.ts';
import { iso, isoOrNull } from '../access.ts';
import { procFilesOf } from './proc-files.ts';
import { shareView } from './shares.ts';
import { watchOf } from './watches.ts';

export function vmView(
  row: VmRow,
  disks: readonly Disk[],
  nics: readonly Nic[],
  shares: readonly ShareRow[],
  consoles: readonly string[],
  cloudInit: CloudInit | undefined,
): Vm {
  return {
    id: row.id,
    name: row.name,
    state: row.state,
    cause: row.cause === null ? null : (JSON.parse(row.cause) as ErrorBody),
    image_id: row.image_id,
    image_name: row.image_name ?? row.image_id,
    memory_bytes: row.memory_bytes,
    append: row.append,
    autostart: row.autostart,
    debug_exit_port: row.debug_exit_port,
    jit_code_bytes: row.jit_code_bytes,
    disks: [...disks],
    nics: [...nics],
    shares: shares.map(shareView),
    cloud_init: cloudInit ?? null,
    watch: watchOf(row),
    proc_files: procFilesOf(row),
    consoles: [...consoles],
    labels: JSON.parse(row.labels) as Record<string, string>,
    created_at: iso(row.created_at),
    updated_at: iso(row.updated_at),
    started_at: isoOrNull(row.started_at),
    version: row.version,
  };
}

export type DropCounts = Readonly<Record<string, number>>;

/** `drops`: by network card, and cause. */
export function statsView(stats: MachineStats, drops: ReadonlyMap<string, DropCounts>): VmStats {
  return {
    instructions: stats.instructions,
    wall_seconds: stats.wallSeconds,
    cpu_seconds: stats.cpuSeconds,
    disks: stats.disks.map((disk) => ({
      device: disk.device,
      reads: disk.reads,
      read_bytes: disk.readBytes,
      read_seconds: disk.readSeconds,
      writes: disk.writes,
      written_bytes: disk.writtenBytes,
      write_seconds: disk.writeSeconds,
      flushes: disk.flushes,
      flush_seconds: disk.flushSeconds,
      discards: disk.discards,
      discarded_bytes: disk.discardedBytes,
      discard_seconds: disk.discardSeconds,
      zeroes: disk.zeroes,
      zeroed_bytes: disk.zeroedBytes,
      zero_seconds: disk.zeroSeconds,
      errors: disk.errors,
      throttled: disk.throttled,
      throttled_seconds: disk.throttledSeconds,
      in_flight: disk.inFlight,
      held: disk.held,
    })),
    nics: stats.nics.map((nic) => ({
      device: nic.device,
      rx_frames: nic.rxFrames,
      rx_bytes: nic.rxBytes,
      tx_frames: nic.txFrames,
      tx_bytes: nic.txBytes,
      drops: { ...drops.get(nic.device) },
    })),
  };
}
