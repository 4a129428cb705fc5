/** What the verbs act on: a VM of the daemon's, or the one that runs in the foreground. */
import type { TransportCard } from '../uml/eth.ts';
import type { Instance, LineName } from '../vmm/index.ts';

/** What verbs need of a machine itself. */
export type MachineControl = Pick<
  Instance,
  'state' | 'hasMachine' | 'halt' | 'reboot' | 'stop' | 'go' | 'request'
> & {
  readonly consoles: Pick<Instance['consoles'], 'tap'>;
};

/** A disk as it is asked for: names of disks and images, or paths. */
export interface WantedDisk {
  readonly unit: number;
  /** The COW file where there is a backing file. */
  readonly file: string;
  readonly backing: string | undefined;
  readonly serial: string | undefined;
  readonly readOnly: boolean;
  readonly synchronous: boolean;
  readonly noDiscard: boolean;
  readonly unlocked: boolean;
  /** Not to be taken for a COW file. */
  readonly plain: boolean;
}

/** All methods fail with AppErrors. */
export interface Target {
  readonly instance: MachineControl;
  /** As uname -a would say it. */
  version(): string;
  /** A line for the guest's log. */
  log(text: string): void;
  /** How the disk was configured: `file`, or `cow,backing`. */
  disk(unit: number): Promise<string | undefined>;
  addDisk(disk: WantedDisk): Promise<void>;
  removeDisk(unit: number): Promise<void>;
  hasNic(unit: number): Promise<boolean>;
  /** `value`: what follows the `=` in `eth1=…`. */
  addNic(unit: number, value: string): Promise<void>;
  addTransportNic(unit: number, card: TransportCard): Promise<void>;
  removeNic(unit: number): Promise<void>;
  /** Shares a folder of the host as `hostfs`. */
  addHostfs(root: string, append: boolean): Promise<void>;
  removeHostfs(): Promise<void>;
  /** What a line is joined to, in UML's words; undefined for `none`. */
  line(name: LineName): string | undefined;
  setLine(name: LineName, value: string): Promise<void>;
  /** Has a folder say which files of the guest's /proc are the host's; `undefined`: none. */
  setHppfs(folder: string | undefined): Promise<void>;
  memoryBytes(): number;
  /** More memory, or less. */
  changeMemory(bytes: number): Promise<void>;
}
