import { CONSOLE_NAMES } from '../../vmm/index.ts';
import { ok, type Verb } from '../verb.ts';

/**
 * UML writes the text into the guest's kernel log. From outside a guest there is no such way without a program of ours in it:
 * here the text goes onto the stream of events (`vm.log`), and to the viewers and the scrollback of the first serial console,
 * where UML's kernel would print it.
 */
export const log: Verb = {
  name: 'log',
  usage: 'log <string>',
  help: "Write a string to the VM's console and events (not to the guest's kernel log)",
  verbatim: true,
  run({ services, who, instance, vmId }, text) {
    const { tenant } = services.vms.find(who, vmId);
    services.events.append({ type: 'vm.log', tenant, resource: { type: 'vm', id: vmId }, data: { text } });
    instance.consoles.output(CONSOLE_NAMES[0], new TextEncoder().encode(text.replaceAll(/\r?\n/g, '\r\n')));
    return ok();
  },
};
