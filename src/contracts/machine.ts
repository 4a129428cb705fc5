/** How a virtual machine is described to the engine's worker. Plain data: it crosses a thread boundary. */

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
  /** Executions of a block before it is compiled; 0 = interpreter alone. The engine's own figure by default. */
  readonly jitThreshold?: number | undefined;
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
  readonly readOnly: boolean;
}

export interface NicConfig {
  /** eth0, eth1, … */
  readonly device: string;
  /** aa:bb:cc:dd:ee:ff */
  readonly mac: string;
  readonly network: string;
}
