/** What `umlaut` exits with, for scripts. */
import type { ErrorCode } from '../contracts/errors.ts';

export const EXIT = {
  ok: 0,
  /** Everything that has no number of its own. */
  error: 1,
  /** Wrong command line, or input that the daemon refuses as not valid. */
  usage: 2,
  notFound: 3,
  /** The state of things does not allow it: taken name, running VM, resource in use. */
  conflict: 4,
  /** The daemon, or a service that it needs, does not answer. */
  unreachable: 5,
} as const;

const BY_CODE: Partial<Record<ErrorCode, number>> = {
  invalid_input: EXIT.usage,
  memory_too_small: EXIT.usage,
  memory_too_large: EXIT.usage,
  bad_kernel: EXIT.usage,
  bad_image: EXIT.usage,
  image_truncated: EXIT.usage,
  not_found: EXIT.notFound,
  conflict: EXIT.conflict,
  already_exists: EXIT.conflict,
  in_use: EXIT.conflict,
  locked: EXIT.conflict,
  precondition_failed: EXIT.conflict,
  protected: EXIT.conflict,
  unreachable: EXIT.unreachable,
};

export function exitCodeOf(code: ErrorCode): number {
  return BY_CODE[code] ?? EXIT.error;
}

export const EXIT_HELP = `Exit status:
  0  done
  1  failed
  2  wrong usage, or input that is not valid
  3  no such resource
  4  conflict: the state of the resource does not allow it
  5  the daemon cannot be reached`;
