/** What a verb of the management console is. Replies are worded as User Mode Linux's (arch/um/drivers/mconsole_kern.c). */
import type { MconsoleResult, MconsoleVerb } from '../contracts/api/index.ts';
import { AppError } from '../contracts/errors.ts';
import type { Instance, Principal, Services } from '../vmm/index.ts';

/** What verbs need of a machine itself: one of the daemon's, or one in the foreground. */
export type MachineControl = Pick<
  Instance,
  'state' | 'hasMachine' | 'halt' | 'reboot' | 'stop' | 'go' | 'request'
> & {
  readonly consoles: Pick<Instance['consoles'], 'tap' | 'output'>;
};

export interface MachineContext {
  readonly instance: MachineControl;
}

export interface VerbContext extends MachineContext {
  readonly services: Services;
  readonly who: Principal;
  /** Id of the VM. */
  readonly vmId: string;
}

export interface Verb<Context extends MachineContext = VerbContext> {
  readonly name: MconsoleVerb;
  /** Its line in `help`. */
  readonly usage: string;
  readonly help: string;
  /** Its argument is all that follows the character behind its name, as UML takes the text of `log`. */
  readonly verbatim?: true;
  /**
   * `argument`: the command's text behind the verb, without blanks around it unless `verbatim`. What UML has a reply for is a reply;
   * everything else (no such VM, not running) throws AppError.
   */
  run(context: Context, argument: string): Promise<MconsoleResult> | MconsoleResult;
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

/** UML has no socket while it does not run: there is no reply to give. */
export function requireMachine({ instance }: MachineContext): void {
  if (instance.hasMachine) return;
  throw new AppError('conflict', `the VM is ${instance.state}, not running`, {
    field: 'state',
    remedy: 'start it first',
  });
}
