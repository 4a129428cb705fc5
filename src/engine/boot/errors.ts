import type { ErrorCode } from '../../contracts/errors.ts';

/** Why a kernel cannot be booted, in the words of the error catalogue. */
export type BootErrorCode = Extract<ErrorCode, 'bad_kernel' | 'memory_too_small'>;

/** A kernel image cannot be booted, or not on this machine; the message names the remedy. */
export class BootError extends Error {
  readonly code: BootErrorCode;
  constructor(code: BootErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A size for messages, in MiB rounded up. */
export const mebibytes = (bytes: number): string => `${Math.ceil(bytes / 0x10_0000)} MiB`;
