/** Rows as SQLite gives them. Times are Unix milliseconds, JSON columns text, booleans 0 or 1. */
import type { Consistency } from '../contracts/backup.ts';
import type { Autostart, DiskErrorPolicy, VmState } from '../contracts/api/index.ts';

export interface ImageRow {
  readonly seq: number;
  readonly id: string;
  readonly name: string | null;
  readonly files: string;
  readonly append: string;
  readonly kernel_release: string | null;
  readonly kernel_version: string | null;
  readonly created_at: number;
  readonly in_use_by: number;
}

export interface NetworkRow {
  readonly seq: number;
  readonly id: string;
  readonly tenant: string;
  readonly name: string;
  readonly shared: number;
  readonly subnet: string;
  readonly settings: string;
  readonly created_at: number;
}

export interface FirewallRow {
  readonly seq: number;
  readonly id: string;
  readonly tenant: string;
  readonly name: string;
  readonly rules: string;
  readonly created_at: number;
}

export interface AddressRow {
  readonly network_id: string;
  readonly address: string;
  readonly mac: string;
  /** Null for a reservation. */
  readonly vm_id: string | null;
  readonly device: string | null;
  readonly position: number;
}

export interface ForwardRow {
  readonly id: string;
  readonly network_id: string;
  readonly protocol: 'tcp' | 'udp';
  readonly host_address: string;
  readonly host_port: number;
  readonly address: string;
  readonly port: number;
}

export interface VmRow {
  readonly seq: number;
  readonly id: string;
  readonly tenant: string;
  readonly name: string;
  readonly state: VmState;
  readonly cause: string | null;
  readonly want_running: number;
  readonly image_id: string;
  readonly image_name: string | null;
  readonly memory_bytes: number;
  readonly append: string;
  readonly autostart: Autostart;
  readonly debug_exit_port: number | null;
  /** Null: the engine's own figure. */
  readonly jit_code_bytes: number | null;
  readonly labels: string;
  readonly watch: string;
  /** JSON: what the API calls proc_files. */
  readonly proc_files: string;
  readonly version: number;
  readonly created_at: number;
  readonly updated_at: number;
  readonly started_at: number | null;
}

export interface NicRow {
  readonly vm_id: string;
  readonly device: string;
  readonly mac: string;
  /** Null for a card with a transport of its own, which is JSON. */
  readonly network_id: string | null;
  readonly network_name: string | null;
  readonly transport: string | null;
  readonly settings: string;
}

export interface ShareRow {
  readonly vm_id: string;
  readonly tag: string;
  readonly path: string;
  readonly read_only: number;
  readonly set_id: number;
  readonly uid_map: string | null;
  readonly gid_map: string | null;
}

export interface LayerRow {
  readonly id: string;
  readonly kind: 'image' | 'cow' | 'raw' | 'backup' | 'external';
  readonly parent_id: string | null;
  readonly origin_id: string | null;
  readonly image_id: string | null;
  readonly path: string;
  readonly size_bytes: number;
  readonly created_at: number;
  /** Others may be over it; nobody writes to it. */
  readonly frozen: number;
  readonly state: 'ready' | 'sealing' | 'merging';
  readonly mtime: number | null;
  readonly merged_bytes: number;
}

/** One of the disks of a VM's snapshot. */
export interface SnapshotDiskRow {
  readonly snapshot_id: string;
  readonly device: string;
  /** The disk it was taken of, while that exists. */
  readonly disk_id: string | null;
  readonly layer_id: string;
  readonly read_only: number;
}

export interface VmSnapshotRow {
  readonly seq: number;
  readonly id: string;
  readonly tenant: string;
  readonly vm_id: string;
  readonly vm_name: string;
  readonly name: string;
  readonly state: 'creating' | 'available' | 'deleting';
  readonly running: number;
  readonly image_id: string;
  readonly memory_bytes: number;
  readonly append: string;
  readonly config: string;
  readonly taken_at: number;
  readonly created_at: number;
  readonly consistency: Consistency | null;
}

/** With the columns of its layer and the image under it. */
export interface DiskRow {
  readonly seq: number;
  readonly id: string;
  readonly tenant: string;
  readonly name: string;
  readonly layer_id: string;
  readonly vm_id: string | null;
  readonly device: string | null;
  readonly read_only: number;
  readonly owned_by_vm: number;
  readonly created_at: number;
  /** JSON: the DiskLimits of contracts/machine.ts. */
  readonly limits: string;
  readonly on_error: DiskErrorPolicy;
  /** Of UML's, while it is attached: s, t or both. */
  readonly ubd_flags: string;
  readonly layer_kind: LayerRow['kind'];
  readonly path: string;
  readonly size_bytes: number;
  readonly image_id: string | null;
  readonly parent_path: string | null;
  readonly image_name: string | null;
}

export interface BackupRow {
  readonly seq: number;
  readonly id: string;
  readonly tenant: string;
  readonly name: string;
  readonly state: 'creating' | 'available' | 'restoring' | 'deleting';
  /** Null: flat copies of the disks. */
  readonly destination_id: string | null;
  readonly kind: 'full' | 'incremental';
  readonly parent_id: string | null;
  readonly consistency: Consistency | null;
  readonly schedule_id: string | null;
  readonly vm_id: string;
  readonly vm_name: string;
  readonly image_id: string;
  readonly memory_bytes: number;
  readonly append: string;
  readonly config: string;
  readonly keep: number | null;
  readonly taken_at: number;
  readonly created_at: number;
  readonly verified_at: number | null;
  readonly damage: string | null;
  readonly tested_at: number | null;
  readonly test_error: string | null;
}

export interface SnapshotRow {
  readonly id: string;
  readonly backup_id: string;
  readonly device: string;
  readonly disk_id: string | null;
  readonly layer_id: string;
  readonly size_bytes: number;
  readonly stored_bytes: number;
  readonly scanned_bytes: number;
  readonly read_only: number;
  readonly taken_at: number;
  readonly path: string;
}

export interface DestinationRow {
  readonly seq: number;
  readonly id: string;
  readonly name: string;
  readonly kind: 'directory' | 'rclone';
  readonly location: string;
  readonly created_at: number;
}

export interface ScheduleRow {
  readonly seq: number;
  readonly id: string;
  readonly tenant: string;
  readonly name: string;
  readonly vm_id: string;
  readonly destination_id: string;
  readonly cron: string;
  readonly time_zone: string;
  readonly jitter_seconds: number;
  readonly quiesce: number;
  readonly keep: string | null;
  readonly enabled: number;
  readonly next_at: number | null;
  readonly last_at: number | null;
  readonly last_operation_id: string | null;
  readonly created_at: number;
}

export interface OperationRow {
  readonly seq: number;
  readonly id: string;
  readonly tenant: string;
  readonly kind: string;
  readonly status: 'pending' | 'running' | 'succeeded' | 'failed' | 'canceled';
  readonly progress: string | null;
  readonly error: string | null;
  readonly may_cancel: number;
  readonly is_job: number;
  readonly created_at: number;
  readonly updated_at: number;
  readonly ended_at: number | null;
}

export interface OperationResourceRow {
  readonly operation_id: string;
  readonly type: string;
  readonly resource_id: string;
}

export interface EventRow {
  readonly seq: number;
  readonly time: number;
  readonly tenant: string | null;
  readonly type: string;
  readonly resource_type: string | null;
  readonly resource_id: string | null;
  readonly data: string;
}

export interface TokenRow {
  readonly seq: number;
  readonly id: string;
  readonly name: string;
  readonly role: 'admin' | 'user' | 'viewer';
  readonly tenant: string;
  readonly hash: Buffer;
  readonly created_at: number;
}

export interface IdempotencyRow {
  readonly token_id: string;
  readonly key: string;
  readonly fingerprint: Buffer;
  readonly status: number | null;
  readonly headers: string | null;
  readonly body: string | null;
  readonly created_at: number;
}

/** A part of a list: rows with `seq` above `after`, at most `limit`; of one tenant, or of all when undefined. */
export interface PageQuery {
  readonly after: number;
  readonly limit: number;
  readonly tenant?: string | undefined;
}
