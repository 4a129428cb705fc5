/** Model-specific registers that guests expect of any Intel processor and that say nothing here (Intel SDM volume 4). */

interface FixedMsr {
  readonly value: bigint;
  /** Writes are accepted and change nothing; otherwise they raise #GP. */
  readonly writable: boolean;
}

const FIXED = new Map<number, FixedMsr>([
  // IA32_PLATFORM_ID
  [0x17, { value: 0n, writable: false }],
  // IA32_FEATURE_CONTROL: locked, no VMX
  [0x3a, { value: 1n, writable: false }],
  // IA32_BIOS_UPDT_TRIG
  [0x79, { value: 0n, writable: true }],
  // IA32_BIOS_SIGN_ID: written 0 before CPUID fills in the microcode revision, of which there is none
  [0x8b, { value: 0n, writable: true }],
]);

/** The register's value, undefined if there is no such register. */
export const readFixedMsr = (index: number): bigint | undefined => FIXED.get(index)?.value;

/** Whether a write is accepted. */
export const acceptsFixedMsr = (index: number): boolean => FIXED.get(index)?.writable ?? false;
