/** What a verb of the management console is. Replies are worded as User Mode Linux's (arch/um/drivers/mconsole_kern.c). */
import type { MconsoleResult, MconsoleVerb } from '../contracts/api/index.ts';
import { AppError, type ErrorCode } from '../contracts/errors.ts';
import type { Target } from './target.ts';

export interface Verb {
  readonly name: MconsoleVerb;
  /** Its lines in `help`, which are UML's. */
  readonly help: string;
  /** Its argument is all that follows the character behind its name, as UML takes the text of `log`. */
  readonly verbatim?: true;
  /**
   * `argument`: the command's text behind the verb, without blanks around it unless `verbatim`. What UML has a reply for is a reply;
   * everything else (no such VM, not running) throws AppError.
   */
  run(target: Target, argument: string): Promise<MconsoleResult> | MconsoleResult;
}

export function ok(text = ''): MconsoleResult {
  return { ok: true, err: 0, text };
}

/** `err`: 1, or a negative errno as Linux numbers them. */
export function refuse(text: string, err = 1): MconsoleResult {
  return { ok: false, err, text };
}

/** errno values that replies carry. */
export const ERRNO = { ENOENT: -2, EACCES: -13, EBUSY: -16, ENODEV: -19, EINVAL: -22 } as const;

const ERRNO_OF: Partial<Record<ErrorCode, number>> = {
  not_found: ERRNO.ENOENT,
  forbidden: ERRNO.EACCES,
  in_use: ERRNO.EBUSY,
  already_exists: ERRNO.EBUSY,
  guest_not_responding: ERRNO.EBUSY,
};

/** Carries something out that UML answers in few words: errors are refusals, `texts` those that UML has words for. */
export async function attempt(
  action: () => Promise<unknown>,
  texts: Partial<Record<ErrorCode, MconsoleResult>> = {},
): Promise<MconsoleResult> {
  try {
    await action();
    return ok();
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return texts[error.code] ?? refuse(error.message, ERRNO_OF[error.code] ?? ERRNO.EINVAL);
  }
}

/** UML has no socket while it does not run: there is no reply to give. */
export function requireMachine({ instance }: Pick<Target, 'instance'>): void {
  if (instance.hasMachine) return;
  throw new AppError('conflict', `the VM is ${instance.state}, not running`, {
    field: 'state',
    remedy: 'start it first',
  });
}
