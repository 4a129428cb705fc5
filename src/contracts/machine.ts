/** How a virtual machine is described to the engine's worker. Plain data: it crosses a thread boundary. */

import type { TraceKind } from './ports.ts';

export interface MachineConfig {
  /** Shown in messages; also the guest's host name where the image supports it (kernel argument `umlaut.name=`). */
  readonly name: string;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly initrd?: string | undefined;
  /** Kernel command line. */
  readonly append: string;
  /** In order: ubd0 is the first. */
  readonly disks: readonly DiskConfig[];
  /** In order: eth0 is the first. */
  readonly nics: readonly NicConfig[];
  readonly shares?: readonly ShareConfig[] | undefined;
  /** How many of the consoles hvc0, hvc1, … there are at first: 1 when missing. */
  readonly consoleCount?: number | undefined;
  /** Files of the guest's /proc that are not its kernel's. */
  readonly procFiles?: readonly ProcFileConfig[] | undefined;
  /** What of the guest's doings is logged. */
  readonly trace?: readonly TraceKind[] | undefined;
  /** Executions of a block before it is compiled; 0 = interpreter alone. The engine's own figure by default. */
  readonly jitThreshold?: number | undefined;
  /** Bytes of WebAssembly that compiled code may have; beyond that the least used goes. The engine's own figure by default. */
  readonly jitCodeBytes?: number | undefined;
  /** Entries of each bank of the CPU's TLB, a power of two. The engine's own figure by default. */
  readonly tlbEntries?: number | undefined;
  /** I/O port of an isa-debug-exit device, if wanted. */
  readonly debugExitPort?: number | undefined;
}

export interface DiskConfig {
  /** ubd0, ubd1, … */
  readonly device: string;
  /** Raw file, or the COW's backing file. */
  readonly file: string;
  /** Private copy-on-write file in UML's format over `file`; made when missing. */
  readonly cow?: string | undefined;
  /** Copy-on-write files between `file` and `cow`, over each other, the lowest first; never written to. */
  readonly frozen?: readonly string[] | undefined;
  /** Those of the files below `cow` that are being merged into: their modification times say nothing. */
  readonly merging?: readonly string[] | undefined;
  readonly readOnly: boolean;
  /** What the guest sees as the disk's serial number, 20 bytes at most: `device` when missing. */
  readonly serial?: string | undefined;
  /** Every write is durable before the guest hears that it is done, as with O_SYNC. */
  readonly synchronous?: boolean | undefined;
  /** The guest cannot discard. */
  readonly noDiscard?: boolean | undefined;
  /** A raw file is not locked: other machines may have it, with a file system for clusters. */
  readonly unlocked?: boolean | undefined;
  /** File that keeps, while the disk is closed, what has changed since its backups. */
  readonly tracking?: string | undefined;
  readonly limits?: DiskLimits | undefined;
  /** What a failed request does: `report`, which is the default, is an I/O error in the guest; `pause` stops the machine first. */
  readonly onError?: DiskErrorPolicy | undefined;
}

export type DiskErrorPolicy = 'report' | 'pause';

/** Per second, reads, writes and discards together; undefined: no limit. A burst is what may come at once after a rest. */
export interface DiskLimits {
  readonly iops?: number | undefined;
  readonly iopsBurst?: number | undefined;
  readonly bytesPerSecond?: number | undefined;
  readonly bytesBurst?: number | undefined;
}

export interface NicConfig {
  /** eth0, eth1, … */
  readonly device: string;
  /** aa:bb:cc:dd:ee:ff */
  readonly mac: string;
  readonly network: string;
}

/** What a share may be named: 9P's limit on Linux is 31 characters in older kernels. */
export const SHARE_TAG = /^[A-Za-z0-9][A-Za-z0-9._-]{0,30}$/;

/** A folder of the host that the guest can mount (9P2000.L over virtio). */
export interface ShareConfig {
  /** What the guest names it by in `mount -t 9p`. */
  readonly tag: string;
  /** Absolute path. */
  readonly folder: string;
  readonly readOnly: boolean;
  /** Which of the guest's users is whom on the host; its root is the daemon's own user when missing. */
  readonly uidMap?: readonly IdRange[] | undefined;
  readonly gidMap?: readonly IdRange[] | undefined;
  /** Set-user-id and set-group-id bits are set on the host's files too. */
  readonly setId?: boolean | undefined;
  /** Every write is at the end of its file. */
  readonly append?: boolean | undefined;
}

/** How a share is called among a machine's devices. */
export function shareDevice(tag: string): string {
  return `share:${tag}`;
}

/** `count` ids from `guest` on in the guest are those from `host` on. */
export interface IdRange {
  readonly guest: number;
  readonly host: number;
  readonly count: number;
}

/** A file of the guest's /proc that the host has replaced or hidden, as UML's hppfs does. */
export interface ProcFileConfig {
  /** Below /proc; a first part `pid` stands for every process. */
  readonly path: string;
  readonly source: ProcSource;
}

/** What the guest reads, made anew for each time that it begins to. */
export type ProcSource =
  /** There is no such file or folder. */
  | { readonly kind: 'hidden' }
  | { readonly kind: 'text'; readonly text: string }
  /** A file of the host. */
  | { readonly kind: 'file'; readonly path: string }
  /** What a program on the host answers that listens on this socket (AF_UNIX, stream), to its end. */
  | { readonly kind: 'socket'; readonly path: string; readonly filter?: boolean | undefined }
  /** What a program of the host prints: its path and its arguments. */
  | {
      readonly kind: 'command';
      readonly command: readonly string[];
      /** It is given what the kernel has: a socket before it answers, a program as its standard input. */
      readonly filter?: boolean | undefined;
    };
