/** A kernel image cannot be booted, or not on this machine; the message names the remedy. */
export class BootError extends Error {
  /** not-a-kernel, kernel-truncated, kernel-unsupported, memory-too-small */
  readonly code: BootErrorCode;
  constructor(code: BootErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export type BootErrorCode = 'not-a-kernel' | 'kernel-truncated' | 'kernel-unsupported' | 'memory-too-small';

/** A size for messages, in MiB rounded up. */
export const mebibytes = (bytes: number): string => `${Math.ceil(bytes / 0x10_0000)} MiB`;
