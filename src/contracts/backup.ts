/** How a backup is described between the daemon, a VM's thread and the thread that writes to a store. Plain data. */

/** Where a store of backups is. */
export type StoreLocation =
  /** A folder of the host, made when missing. */
  | { readonly kind: 'directory'; readonly folder: string }
  /** A path of a remote that rclone knows, such as `offsite:umlaut`. */
  | { readonly kind: 'rclone'; readonly remote: string };

/** What shows that a remote is held by this daemon: an object of this name that has this token. */
export interface LeaseClaim {
  readonly name: string;
  readonly token: string;
}

export interface StoreConfig {
  readonly location: StoreLocation;
  /** Of remotes. */
  readonly lease?: LeaseClaim | undefined;
  /** The cache of the store's index, on a disk of this host. */
  readonly indexFile: string;
}

/**
 * State of the file systems at the moment of a backup. guest-agent: they were frozen; synced: the kernel had written out its cache;
 * crash: as after a power cut; off: the VM was.
 */
export const CONSISTENCIES = ['guest-agent', 'synced', 'crash', 'off'] as const;
export type Consistency = (typeof CONSISTENCIES)[number];

/** What a restore makes a VM from. */
export interface BackedUpVm {
  readonly id: string;
  readonly name: string;
  readonly imageId: string;
  readonly memoryBytes: number;
  readonly append: string;
  /** Of its network cards, in order. */
  readonly networks: readonly string[];
  readonly debugExitPort: number | null;
  /** JSON; missing in what an earlier version has written. */
  readonly settings?: string | undefined;
}

/** What is known of a backup before the disks are read. */
export interface BackupHead {
  readonly id: string;
  readonly name: string;
  readonly tenant: string;
  /** Unix milliseconds. */
  readonly createdAt: number;
  readonly scheduleId: string | null;
  readonly vm: BackedUpVm;
}

export interface BackedUpDisk {
  readonly device: string;
  readonly diskId: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** Bytes that were looked at: all of the disk, or what had changed since the parent. */
  readonly scannedBytes: number;
  /** What the backup added to the store for this disk. */
  readonly storedBytes: number;
}

export interface BackupSummary extends BackupHead {
  readonly kind: 'full' | 'incremental';
  /** The backup whose content was gone on from; it is not needed for anything any more. */
  readonly parent: string | null;
  readonly consistency: Consistency;
  /** The moment, Unix milliseconds. */
  readonly takenAt: number;
  readonly disks: readonly BackedUpDisk[];
}

export interface BackupPlan {
  readonly store: StoreConfig;
  /** Names the store among those that the disks track changes for. */
  readonly storeId: string;
  readonly head: BackupHead;
  /** Ids of the disks by their device names. */
  readonly diskIds: Readonly<Record<string, string>>;
  /** The backup in the same store to go on from, if there is one and it can be read. */
  readonly parent: string | null;
}
