/** `umlaut network forward …` */
import { isIP } from 'node:net';
import { type Command, InvalidArgumentError } from 'commander';
import type { Forward, ForwardCreateInput } from '../../contracts/api/index.ts';
import { CommandContext } from '../context.ts';
import { formatTable } from '../format.ts';
import type { Io } from '../io.ts';

interface AddOptions {
  readonly vm?: string;
  readonly udp?: boolean;
}

export function registerForward(network: Command, io: Io): void {
  const forward = network.command('forward').description('ports of the host that lead to VMs');
  forward
    .command('list')
    .argument('<network>')
    .description('all of a network')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.listForwards(name), forwardTable);
    });
  forward
    .command('create')
    .argument('<network>')
    .argument('<host>', '[ADDRESS:]PORT of the host; 127.0.0.1 when no address is given')
    .argument('<guest>', 'VM:PORT or ADDRESS:PORT in the network')
    .option('--udp', 'UDP in place of TCP')
    .description('forward a port of the host to a VM')
    .action(async (name: string, host: string, guest: string, options: AddOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const body = forwardOf(host, guest, options.udp === true);
      const made = await context.client.createForward(name, body);
      context.print(made, () => `${made.id}\n`);
    });
  forward
    .command('delete')
    .argument('<network>')
    .argument('<forward>', 'its id')
    .description('stop forwarding; connections that are open stay so')
    .action(async (name: string, id: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      await context.client.deleteForward(name, id);
      context.print({ deleted: id }, () => `${id} deleted\n`);
    });
}

function forwardOf(host: string, guest: string, isUdp: boolean): ForwardCreateInput {
  const [hostAddress, hostPort] = split(host);
  const [target, port] = split(guest);
  if (target === '')
    throw new InvalidArgumentError(
      'Write the guest as VM:PORT or ADDRESS:PORT, an IPv6 address in brackets.',
    );
  return {
    protocol: isUdp ? 'udp' : 'tcp',
    host_port: hostPort,
    port,
    ...(hostAddress !== '' && { host_address: hostAddress }),
    ...(isIP(target) === 0 ? { vm: target } : { address: target }),
  };
}

/** `[ADDRESS:]PORT`; an IPv6 address in brackets. */
function split(text: string): [address: string, port: number] {
  const parsed = /^(?:\[([^\]]+)\]:|([^:]+):)?(\d{1,5})$/.exec(text);
  if (parsed === null) throw new InvalidArgumentError(`"${text}" is not [ADDRESS:]PORT.`);
  return [parsed[1] ?? parsed[2] ?? '', Number(parsed[3])];
}

function forwardTable(forwards: readonly Forward[]): string {
  const rows = forwards.map(({ id, protocol, host_address, host_port, address, port }) => [
    id,
    protocol,
    `${host_address}:${host_port}`,
    `${address}:${port}`,
  ]);
  return formatTable(['ID', 'PROTOCOL', 'HOST', 'GUEST'], rows);
}
