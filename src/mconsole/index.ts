/** The management console: UML's verbs, one file each and one row here. */
import type { MconsoleResult, MconsoleVerb } from '../contracts/api/index.ts';
import type { Principal, Services } from '../vmm/index.ts';
import { dispatch } from './dispatch.ts';
import type { Verb, VerbContext } from './verb.ts';
import { cad } from './verbs/cad.ts';
import { config } from './verbs/config.ts';
import { go } from './verbs/go.ts';
import { halt } from './verbs/halt.ts';
import { makeHelp } from './verbs/help.ts';
import { log } from './verbs/log.ts';
import { proc } from './verbs/proc.ts';
import { reboot } from './verbs/reboot.ts';
import { remove } from './verbs/remove.ts';
import { stack } from './verbs/stack.ts';
import { stop } from './verbs/stop.ts';
import { sysrq } from './verbs/sysrq.ts';
import { version } from './verbs/version.ts';

export { sysrqKey } from './verbs/sysrq.ts';

/** In UML's order, which matters: the first verb that begins the text is meant. */
const VERBS: readonly Verb[] = [
  version,
  halt,
  reboot,
  config,
  remove,
  sysrq,
  makeHelp(() => VERBS),
  cad,
  stop,
  go,
  log,
  proc,
  stack,
];

/** Carries out a command's text. Unknown ones are answered, not thrown. */
export async function runCommand(
  services: Services,
  who: Principal,
  vmRef: string,
  command: string,
): Promise<MconsoleResult> {
  return await dispatch(VERBS, contextOf(services, who, vmRef), command);
}

/** One verb with its argument. */
export async function runVerb(
  services: Services,
  who: Principal,
  vmRef: string,
  name: MconsoleVerb,
  argument: string,
): Promise<MconsoleResult> {
  // INVARIANT: the table has a row for every MconsoleVerb; test/api/mconsole.test.ts walks them all.
  const verb = VERBS.find((row) => row.name === name)!;
  return await verb.run(contextOf(services, who, vmRef), argument);
}

function contextOf(services: Services, who: Principal, vmRef: string): VerbContext {
  const { id } = services.vms.find(who, vmRef);
  return { services, who, vmId: id, instance: services.supervisor.get(id) };
}
