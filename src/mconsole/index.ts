/** The management console: UML's verbs for the daemon's VMs. */
import type { MconsoleResult, MconsoleVerb } from '../contracts/api/index.ts';
import type { Principal, Services } from '../vmm/index.ts';
import { DaemonTarget } from './daemon-target.ts';
import { dispatch, dispatchVerb } from './verbs/index.ts';

export { sysrqKey } from './verbs/sysrq.ts';

/** Carries out a command's text. Unknown ones are answered, not thrown. */
export async function runCommand(
  services: Services,
  who: Principal,
  vmRef: string,
  command: string,
): Promise<MconsoleResult> {
  return await dispatch(new DaemonTarget(services, who, vmRef), command);
}

/** One verb with its argument. */
export async function runVerb(
  services: Services,
  who: Principal,
  vmRef: string,
  name: MconsoleVerb,
  argument: string,
): Promise<MconsoleResult> {
  return await dispatchVerb(new DaemonTarget(services, who, vmRef), name, argument);
}
