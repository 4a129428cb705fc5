import { z } from 'zod';
import { Bytes, ErrorBody, Labels, ListQuery, Name, pageOf, Ref, Timestamp, WaitTimeout } from './common.ts';
import { CloudInit } from './cloud-init.ts';
import { Disk, DiskSettings } from './disk.ts';
import { NICS_MAX, Nic, NicCreate } from './nic.ts';
import { Watch, WatchList } from './watch.ts';
import { ProcFile, ProcFileList } from './proc-file.ts';
import { Share, ShareCreate, SHARES_MAX } from './share.ts';

export const MEMORY_MIN_BYTES = 64 * 1024 * 1024;
export const MEMORY_DEFAULT_BYTES = 256 * 1024 * 1024;
export const DISKS_MAX = 16;
export const APPEND_MAX = 2048;

/**
 * `stopped` is mconsole's stop: frozen, with its memory. `halted` is powered off.
 * `failed` ended by a fault of the guest or the engine; `cause` says which. Halted and failed VMs can be started.
 */
export const VmState = z.enum(['created', 'starting', 'running', 'stopped', 'halting', 'halted', 'failed']);
export type VmState = z.infer<typeof VmState>;

/** What the daemon does with the VM when it starts itself. */
export const Autostart = z
  .enum(['last-state', 'always', 'never'])
  .meta({ description: 'last-state: boot it again if it was running when the daemon ended' });
export type Autostart = z.infer<typeof Autostart>;

export const Vm = z.object({
  id: z.string(),
  name: Name,
  state: VmState,
  cause: ErrorBody.nullable().meta({
    description: 'Why the last run failed, or why the VM has stopped itself',
  }),
  image_id: z.string(),
  image_name: z.string(),
  memory_bytes: Bytes,
  append: z.string().meta({ description: "Added to the image's kernel command line" }),
  autostart: Autostart,
  debug_exit_port: z.int().nullable(),
  jit_code_bytes: z.int().nullable(),
  disks: z.array(Disk),
  nics: z.array(Nic),
  shares: z.array(Share),
  cloud_init: CloudInit.nullable(),
  watch: z.array(Watch),
  proc_files: z.array(ProcFile),
  consoles: z.array(z.string()),
  labels: Labels,
  created_at: Timestamp,
  updated_at: Timestamp,
  started_at: Timestamp.nullable(),
  version: z.int().meta({ description: 'Raised by every change of the configuration; the ETag' }),
});
export type Vm = z.infer<typeof Vm>;
export const VmPage = pageOf(Vm);
export type VmPage = z.infer<typeof VmPage>;

const JIT_CODE_MIN_BYTES = 256 << 10;
const JIT_CODE_MAX_BYTES = 256 << 20;

export const MemoryBytes = z
  .int()
  .multipleOf(4096, 'must be a multiple of 4096')
  .meta({ description: `Guest memory in bytes; ${MEMORY_DEFAULT_BYTES} when missing` });

export const JitCodeBytes = z
  .int()
  .min(JIT_CODE_MIN_BYTES, 'must be at least 256 KiB')
  .max(JIT_CODE_MAX_BYTES, 'must be at most 256 MiB')
  .nullable()
  .meta({
    description:
      'Room for compiled guest code, as bytes of WebAssembly: what was not used for longest goes when it is spent. From the next start on; null is 12 MiB',
  });

const Append = z
  .string()
  .max(APPEND_MAX)
  .regex(/^[\x20-\x7e]*$/, 'use printable ASCII characters');

export const VmCreate = z.strictObject({
  name: Name.optional().meta({ description: 'Made up when missing' }),
  image: Ref.default('default'),
  memory_bytes: MemoryBytes.optional(),
  append: Append.default(''),
  autostart: Autostart.default('last-state'),
  debug_exit_port: z.int().min(0x100).max(0xffff).nullable().default(null),
  jit_code_bytes: JitCodeBytes.default(null),
  disks: z
    .array(z.strictObject({ disk: Ref }))
    .max(DISKS_MAX - 1)
    .default([])
    .meta({ description: 'Existing disks to attach after the image’s own, as ubd1, ubd2, …' }),
  root_disk: DiskSettings.default({}).meta({ description: 'Settings of ubd0' }),
  nics: z
    .array(NicCreate)
    .max(NICS_MAX)
    .default([{ network: 'default' }]),
  shares: z
    .array(ShareCreate)
    .max(SHARES_MAX)
    .default([])
    .meta({ description: 'Folders of the host that the guest can mount' }),
  cloud_init: CloudInit.nullable().default(null),
  watch: WatchList.default([]),
  proc_files: ProcFileList.default([]),
  labels: Labels.default({}),
  start: z.boolean().default(false),
});
export type VmCreate = z.infer<typeof VmCreate>;
export type VmCreateInput = z.input<typeof VmCreate>;

/** Memory, disks and NICs take effect at the next start; memory and append are refused while the VM runs. */
export const VmUpdate = z.strictObject({
  name: Name.optional(),
  memory_bytes: MemoryBytes.optional(),
  append: Append.optional(),
  autostart: Autostart.optional(),
  jit_code_bytes: JitCodeBytes.optional(),
  watch: WatchList.optional(),
  proc_files: ProcFileList.optional(),
  labels: Labels.optional(),
  cloud_init: CloudInit.nullable()
    .optional()
    .meta({ description: 'The metadata service tells it at once, the seed disk at the next start' }),
});
export type VmUpdate = z.infer<typeof VmUpdate>;

export const VmListQuery = ListQuery.extend({
  name: z.string().max(63).optional(),
  state: VmState.optional(),
  label: z.string().max(320).optional().meta({ description: '`key` or `key=value`' }),
});

export const VmWaitQuery = z.strictObject({ state: VmState, timeout: WaitTimeout });

/** Answer of `?dry_run=true`: what would be made; nothing is. */
export const VmPlan = z.object({
  dry_run: z.literal(true),
  vm: Vm,
  memory_available_bytes: Bytes.meta({ description: 'What admission would let a guest have now' }),
});
export type VmPlan = z.infer<typeof VmPlan>;

export const AttachDisk = z.strictObject({
  disk: Ref,
  device: z
    .string()
    .regex(/^ubd([0-9]|1[0-5])$/, 'use ubd0 to ubd15')
    .optional(),
  read_only: z.boolean().optional(),
});
export type AttachDisk = z.infer<typeof AttachDisk>;

export const VmStats = z.object({
  instructions: z.number(),
  wall_seconds: z.number(),
  cpu_seconds: z.number(),
  disks: z.array(
    z.object({
      device: z.string(),
      reads: z.number(),
      read_bytes: z.number(),
      read_seconds: z.number().meta({ description: 'Of all reads together, from when the guest asked' }),
      writes: z.number(),
      written_bytes: z.number(),
      write_seconds: z.number(),
      flushes: z.number(),
      flush_seconds: z.number(),
      discards: z.number(),
      discarded_bytes: z.number(),
      discard_seconds: z.number(),
      zeroes: z.number().meta({ description: 'Requests to write zeros' }),
      zeroed_bytes: z.number(),
      zero_seconds: z.number(),
      errors: z.number(),
      throttled: z.number().meta({ description: 'Requests that waited because of the limits' }),
      throttled_seconds: z.number(),
      in_flight: z.number(),
      held: z.number().meta({ description: 'Failed, and tried again when the VM goes on' }),
    }),
  ),
  nics: z.array(
    z.object({
      device: z.string(),
      rx_frames: z.number(),
      rx_bytes: z.number(),
      tx_frames: z.number(),
      tx_bytes: z.number(),
      drops: z.record(z.string(), z.number()).meta({
        description:
          'Frames that its port of the switch has dropped, by cause; queueFull: to the VM, which did not keep up',
      }),
    }),
  ),
});
export type VmStats = z.infer<typeof VmStats>;
