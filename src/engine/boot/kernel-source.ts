/** What a boot loader is given. */
export interface KernelSource {
  readonly kernel: Uint8Array;
  readonly initrd?: Uint8Array | undefined;
  readonly commandLine: string;
  /** Physical address of the ACPI RSDP. */
  readonly rsdp: number;
  /** Fills with random bytes, for the guest's entropy pool. */
  readonly entropy: (into: Uint8Array) => void;
}
