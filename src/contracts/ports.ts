/**
 * Messages between the supervisor (daemon's main thread) and a VM's worker thread.
 * Requests carry an `id` and are answered by exactly one `reply`; events come unasked.
 */
import type { BackupPlan, BackupSummary, Consistency } from './backup.ts';
import type { PlainError } from './errors.ts';
import type {
  DiskConfig,
  DiskErrorPolicy,
  DiskLimits,
  MachineConfig,
  NicConfig,
  ProcFileConfig,
  ShareConfig,
} from './machine.ts';

/** `workerData` of a VM's worker. */
export interface MachineWorkerData {
  readonly config: MachineConfig;
  /** One per NIC in `config.nics`, in order: the VM's end of a switch port (see switchd/port-rings.ts). */
  readonly nicRings: readonly SharedArrayBuffer[];
}

/** A console of a VM: `ttyS0`…`ttyS3` are 16550s, `hvc0`… virtio console ports. */
export type ConsoleName = string;

/** An empty layer that is put over a disk. */
export interface LayerOnTop {
  readonly device: string;
  readonly file: string;
  /** Unix seconds: what the layer below is stamped with, as the header of the new one says. */
  readonly mtime: number;
}

/** What is done to the layers of a machine's disks while its guest runs. */
export type LayerRequest =
  /** Answered when what these disks have been given is durable: then a snapshot has little left to write. */
  | { readonly type: 'flush-layers'; readonly devices: readonly string[] }
  /** Puts layers over disks, all at one moment. Answered with LayersFrozen. */
  | {
      readonly type: 'freeze-layers';
      readonly layers: readonly LayerOnTop[];
      /** Ask the guest to write out what it has. */
      readonly quiesce: boolean;
    }
  /** Answered when what has been frozen of these disks is durable. */
  | { readonly type: 'seal-layers'; readonly devices: readonly string[] }
  /** The files below the top are these now, with the same content. */
  | {
      readonly type: 'relayer';
      readonly device: string;
      readonly files: Pick<DiskConfig, 'file' | 'frozen' | 'merging'>;
    }
  /** Copies the top layer into the one below it, as far as that goes while the guest writes. Error `interrupted`. */
  | {
      readonly type: 'merge-top';
      readonly device: string;
      readonly upper: string;
      readonly lower: string;
      readonly bytesPerSecond?: number | undefined;
    }
  /** The guest's writes wait from now on; answered when the lower layer has everything, durable. */
  | { readonly type: 'hold-merge'; readonly device: string }
  /** The guest goes on: in the lower layer, which has the name `path` now, or, without a path, as before. */
  | { readonly type: 'finish-merge'; readonly device: string; readonly path?: string | undefined };

export interface LayersFrozen {
  readonly consistency: Consistency;
  /** How long the guest stood still. */
  readonly milliseconds: number;
}

export type MachineRequest =
  | LayerRequest
  /** Freezes the vCPU (mconsole stop). Error `already-stopped`. */
  | { readonly type: 'stop' }
  /** Resumes it, and tries disk requests again that failed and stopped it. Error `not-stopped`. */
  | { readonly type: 'go' }
  /** Ends the VM at once without asking the guest; pending disk writes are finished and flushed. */
  | { readonly type: 'halt' }
  /** Resets the machine at once and boots again. */
  | { readonly type: 'reboot' }
  /** Ctrl-Alt-Del to the guest's keyboard controller. */
  | { readonly type: 'cad' }
  /** ACPI power button. */
  | { readonly type: 'power-button' }
  /** The kernel's SysRq handler: a break on ttyS0, then the letter. */
  | { readonly type: 'sysrq'; readonly letter: string }
  /**
   * Backup of all disks at one moment, while the guest runs on; answered when the moment is taken. `quiesce`: with the guest's help.
   * `writer` leads to the task that writes to the store; it is transferred. The backup is canceled by ending that task.
   */
  | {
      readonly type: 'backup';
      readonly plan: BackupPlan;
      readonly quiesce: boolean;
      readonly writer?: MessagePort | undefined;
    }
  /** Changes a disk's limits and what it does on errors, from now on. Error `not_found`. */
  | {
      readonly type: 'disk-settings';
      readonly device: string;
      readonly limits: DiskLimits;
      readonly onError: DiskErrorPolicy;
    }
  /** Makes a disk larger; the guest is told. Errors as `GuestDisk.grow`. */
  | { readonly type: 'grow-disk'; readonly device: string; readonly sizeBytes: number }
  /** A file of the guest's /proc, read from outside: the answer is its bytes. */
  | { readonly type: 'proc'; readonly file: string }
  /** The kernel stack of a process of the guest's, as text. */
  | { readonly type: 'stack'; readonly pid: number }
  /** Which files of /proc are the host's from now on. */
  | { readonly type: 'proc-files'; readonly files: readonly ProcFileConfig[] }
  /** What is traced from now on. */
  | { readonly type: 'trace'; readonly kinds: readonly TraceKind[] }
  | { readonly type: 'stats' }
  /** Plugs a disk in; the guest finds it by itself. */
  | { readonly type: 'attach-disk'; readonly disk: DiskConfig }
  /** Plugs a network card in; `ring` is its end of a switch port. */
  | { readonly type: 'attach-nic'; readonly nic: NicConfig; readonly ring: SharedArrayBuffer }
  /** Asks the guest to make do with so much memory, at most what it was started with. */
  | { readonly type: 'memory'; readonly bytes: number }
  /** Errors as `openShare`; `conflict`, `quota_exceeded`. */
  | { readonly type: 'attach-share'; readonly share: ShareConfig }
  /** The guest has the consoles hvc0 to hvc<count - 1> from now on. */
  | { readonly type: 'consoles'; readonly count: number }
  /** Asks the guest to let go of a disk (ubd0), network card (eth0) or share (share:TAG); answered when `device-gone` has been told. Error `guest_not_responding`. */
  | { readonly type: 'detach'; readonly device: string };

export type ToMachine =
  | { readonly type: 'request'; readonly id: number; readonly request: MachineRequest }
  | ConsoleMessage;

/** Messages about consoles have no answers. */
export type ConsoleMessage =
  | { readonly type: 'console-input'; readonly console: ConsoleName; readonly bytes: Uint8Array }
  /** So much of the output has been read, by all that read it. While too much is not, serial ports make the guest wait. */
  | { readonly type: 'console-output-taken'; readonly console: ConsoleName; readonly bytes: number }
  /** The size of the terminal at the other end. */
  | {
      readonly type: 'console-size';
      readonly console: ConsoleName;
      readonly columns: number;
      readonly rows: number;
    };

/** What of a guest's doings is logged from outside. */
export type TraceKind = 'exec' | 'open' | 'connect';

/** One program started, file opened or socket connected, or the attempt. */
export interface TraceRecord {
  /** Unix milliseconds, of the host. */
  readonly time: number;
  readonly kind: TraceKind;
  readonly pid: number;
  readonly ppid: number;
  /** Real and effective user. */
  readonly uid: number;
  readonly euid: number;
  /** The process's short name: before an exec, that of the program before. */
  readonly comm: string;
  /** Of a program or file, or of a socket in the file system (@ for an abstract one). */
  readonly path?: string | undefined;
  readonly arguments?: readonly string[] | undefined;
  /** Of an open: O_RDONLY and so on, as Linux numbers them. */
  readonly flags?: number | undefined;
  /** An open file's descriptor (missing when the kernel keeps the file, as for an exec), 0 for what else succeeded, or a negative errno. */
  readonly result?: number | undefined;
  readonly address?: string | undefined;
  readonly port?: number | undefined;
  /** Of an address that is none of these. */
  readonly family?: number | undefined;
}

/** Why a machine's worker ended. */
export type MachineEnd =
  | { readonly reason: 'power-off' }
  | { readonly reason: 'halt' }
  | { readonly reason: 'debug-exit'; readonly status: number }
  | { readonly reason: 'triple-fault'; readonly detail: string }
  | { readonly reason: 'error'; readonly code: string; readonly detail: string };

export interface MachineStats {
  readonly instructions: number;
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
  readonly disks: readonly DiskStats[];
  readonly nics: readonly NicStats[];
}
/** Since the machine was made. Seconds are the sums of the requests' own, from when the guest made them. */
export interface DiskStats {
  readonly device: string;
  readonly reads: number;
  readonly readBytes: number;
  readonly readSeconds: number;
  readonly writes: number;
  readonly writtenBytes: number;
  readonly writeSeconds: number;
  readonly flushes: number;
  readonly flushSeconds: number;
  readonly discards: number;
  readonly discardedBytes: number;
  readonly discardSeconds: number;
  readonly zeroes: number;
  readonly zeroedBytes: number;
  readonly zeroSeconds: number;
  /** Times that a request failed, those included that are tried again. */
  readonly errors: number;
  /** Requests that waited because of the limits, and how long. */
  readonly throttled: number;
  readonly throttledSeconds: number;
  /** Now: made and not finished; of these, failed and waiting to be tried again. */
  readonly inFlight: number;
  readonly held: number;
}
export interface NicStats {
  readonly device: string;
  readonly rxFrames: number;
  readonly rxBytes: number;
  readonly txFrames: number;
  readonly txBytes: number;
}

export type FromMachine =
  | { readonly type: 'reply'; readonly id: number; readonly result: unknown }
  | {
      readonly type: 'reply-error';
      readonly id: number;
      readonly code: string;
      readonly message: string;
      readonly field?: string | undefined;
      readonly remedy?: string | undefined;
    }
  /** How far a request is that takes its time. */
  | { readonly type: 'progress'; readonly id: number; readonly done: number; readonly total: number }
  /** The guest is running (boot started). */
  | { readonly type: 'started' }
  /** The guest reset itself or was rebooted; the same worker boots again. */
  | { readonly type: 'rebooted' }
  /** The guest's kernel has panicked and told the pvpanic device so. */
  | { readonly type: 'panicked' }
  /** What the guest's programs have done since the last such message; `dropped` records before them were too many. */
  | { readonly type: 'trace'; readonly records: readonly TraceRecord[]; readonly dropped: number }
  /** What the guest would have read of a replaced file of /proc could not be made: it got EIO. */
  | { readonly type: 'proc-file-failed'; readonly path: string; readonly why: string }
  /** The guest has not reset its watchdog in time. */
  | { readonly type: 'hung' }
  /** What a guest's program wrote to /dev/virtio-ports/umlaut.notify; `dropped` before it were too many. */
  | { readonly type: 'notification'; readonly bytes: Uint8Array; readonly dropped: number }
  /** The guest has let go of a device that it was asked for, perhaps later than anybody waited; its file is closed. */
  | { readonly type: 'device-gone'; readonly device: string }
  /** A request failed. `held`: the machine is stopped for it, and `go` tries it again. `unreported`: errors before it, told by nobody. */
  | {
      readonly type: 'disk-error';
      readonly device: string;
      readonly request: string;
      readonly code: string;
      readonly message: string;
      readonly held: boolean;
      readonly unreported: number;
    }
  | { readonly type: 'console-output'; readonly console: ConsoleName; readonly bytes: Uint8Array }
  /** The guest does not read its input, and whoever sends it should wait; or it has read on. */
  | { readonly type: 'console-held'; readonly console: ConsoleName; readonly held: boolean }
  | {
      readonly type: 'backup-progress';
      readonly backupId: string;
      readonly doneBytes: number;
      readonly totalBytes: number;
    }
  | { readonly type: 'backup-done'; readonly backupId: string; readonly result: BackupSummary }
  | {
      readonly type: 'backup-failed';
      readonly backupId: string;
      readonly error: PlainError;
    }
  | { readonly type: 'ended'; readonly end: MachineEnd };
