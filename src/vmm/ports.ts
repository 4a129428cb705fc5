/** What the virtual machine manager needs from other parts; `main.ts` connects them, tests put in their own. */

import type { Transferable } from 'node:worker_threads';
import type { FromMachine, MachineWorkerData, ToMachine } from '../contracts/ports.ts';
import type { SwitchHandle } from '../switchd/index.ts';

/** A machine's thread, as `worker_threads.Worker` is. */
export interface MachineWorker {
  postMessage(message: ToMachine, transfer?: Transferable[]): void;
  terminate(): Promise<unknown>;
  on(event: 'message', listener: (message: FromMachine) => void): unknown;
  on(event: 'error', listener: (error: unknown) => void): unknown;
  on(event: 'exit', listener: (status: number) => void): unknown;
}
export type MachineFactory = (data: MachineWorkerData) => MachineWorker;

export type { CaptureOptions, NatPolicyOptions, NetworkOptions, PortSettings } from '../switchd/index.ts';

export interface NetworkLease {
  readonly mac: string;
  readonly address: string;
  readonly hostName: string | null;
}

/** The port of a VM's network card. */
export function portIdOf(vmId: string, device: string): string {
  return `${vmId}/${device}`;
}

/** The virtual switch; networks live in it as long as the daemon. */
export type NetworkSwitch = Pick<
  SwitchHandle,
  | 'capture'
  | 'createNetwork'
  | 'configureNetwork'
  | 'deleteNetwork'
  | 'attach'
  | 'configurePort'
  | 'reserve'
  | 'forward'
  | 'unforward'
  | 'uplink'
  | 'ports'
  | 'macTable'
  | 'close'
> & {
  leases(networkId: string): Promise<readonly NetworkLease[]>;
};

export interface StoredImageFile {
  readonly role: 'kernel' | 'initrd' | 'disk';
  readonly sha256: string;
  readonly sizeBytes: number;
}

export interface StoredImage {
  readonly id: string;
  readonly name: string;
  readonly append: string;
  readonly createdAt: string;
  readonly kernel: string;
  readonly initrd?: string | undefined;
  readonly disk: string;
  readonly files: readonly StoredImageFile[];
  /** As uname -r and uname -v say it, if the kernel file tells. */
  readonly kernelRelease: string | null;
  readonly kernelVersion: string | null;
}

export interface ImageProgress {
  /** 0 to 1. */
  readonly fraction: number;
  readonly label: string;
}

/** The image files. All methods fail with AppError. */
export interface ImageLibrary {
  list(): StoredImage[];
  get(id: string): StoredImage;
  /** For starting a machine: after a cheap check of every file. */
  use(id: string): Promise<StoredImage>;
  build(
    what: { readonly name: string; readonly kernel?: 'cloud' | 'generic' | undefined },
    onProgress: (progress: ImageProgress) => void,
    signal: AbortSignal,
  ): Promise<StoredImage>;
  import(
    sources: {
      readonly name: string;
      /** Undefined: kernel, initrd and command line are taken out of the disk. */
      readonly kernel?: string | undefined;
      readonly initrd?: string | undefined;
      readonly disk: string;
      readonly append?: string | undefined;
    },
    onProgress: (progress: ImageProgress) => void,
    signal: AbortSignal,
  ): Promise<StoredImage>;
  verify(id: string, signal: AbortSignal): Promise<void>;
  remove(id: string): void;
}

/** The log's own interface is pino's; only this much of it is used. */
export interface Log {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}
