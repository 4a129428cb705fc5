/** What a bzImage says of itself: the setup header's kernel_version (Linux Documentation/arch/x86/boot.rst). */

/** So much of a file's beginning has it. */
export const KERNEL_VERSION_BYTES = 0x8000;

export interface KernelVersion {
  /** As uname -r says it. */
  readonly release: string | null;
  /** As uname -v says it. */
  readonly version: string | null;
}

const UNKNOWN: KernelVersion = { release: null, version: null };

/** Nulls for a file that does not tell. */
export function kernelVersion(file: Uint8Array): KernelVersion {
  const bytes = Buffer.from(file.buffer, file.byteOffset, Math.min(file.length, KERNEL_VERSION_BYTES));
  if (bytes.length < 0x210 || bytes.toString('latin1', 0x202, 0x206) !== 'HdrS') return UNKNOWN;
  const offset = bytes.readUInt16LE(0x20e);
  if (offset === 0 || offset + 0x200 >= bytes.length) return UNKNOWN;
  const end = bytes.indexOf(0, offset + 0x200);
  const text = bytes.toString('latin1', offset + 0x200, end < 0 ? bytes.length : end).slice(0, 256);
  // RELEASE (user@host) #VERSION
  const match = /^(\S+)(?:.*?(#.*))?$/.exec(text.trim());
  return { release: match?.[1] ?? null, version: match?.[2] ?? null };
}
