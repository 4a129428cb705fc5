/** `umlaut network …` */
import type { Command } from 'commander';
import type { Network, Nic } from '../../contracts/api/index.ts';
import { CommandContext } from '../context.ts';
import { formatAge, formatFields, formatTable } from '../format.ts';
import type { Io } from '../io.ts';

export function registerNetwork(program: Command, io: Io): void {
  const network = program.command('network').description('switched networks');
  network
    .command('list')
    .description('all networks')
    .action(async (_options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.listNetworks(), networkTable);
    });
  network
    .command('show')
    .argument('<network>')
    .description('one network and its leases')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.getNetwork(name), networkFields);
    });
  network
    .command('create')
    .argument('<name>')
    .requiredOption('--subnet <cidr>', 'such as 10.1.0.0/24')
    .description('make a network with DHCP and DNS')
    .action(async (name: string, { subnet }: { subnet: string }, command: Command) => {
      const context = new CommandContext(command, io);
      const made = await context.client.createNetwork({ name, subnet });
      context.print(made, () => `${made.name}\n`);
    });
  network
    .command('delete')
    .argument('<network>')
    .description('delete a network that no VM is on')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      await context.client.deleteNetwork(name);
      context.print({ deleted: name }, () => `${name} deleted\n`);
    });
  registerCards(network, io);
}

interface AttachOptions {
  readonly device?: string;
  readonly mac?: string;
}

function registerCards(network: Command, io: Io): void {
  network
    .command('attach')
    .argument('<vm>')
    .argument('<network>')
    .option('--device <device>', 'eth0 to eth7; the first free one when missing')
    .option('--mac <mac>', 'its address; one of its own when missing')
    .description('give a VM a network card; a guest that runs finds it by itself')
    .action(async (vm: string, name: string, { device, mac }: AttachOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const now = await context.client.attachNic(vm, {
        network: name,
        ...(device !== undefined && { device }),
        ...(mac !== undefined && { mac }),
      });
      context.print(now, () => nicTable(now.nics));
    });
  network
    .command('detach')
    .argument('<vm>')
    .argument('<device>', 'eth1, …')
    .description('take a network card from a VM, once its guest has let go of it')
    .action(async (vm: string, device: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      const now = await context.client.detachNic(vm, device);
      context.print(now, () => nicTable(now.nics));
    });
}

function nicTable(nics: readonly Nic[]): string {
  const rows = nics.map(({ device, network, mac, addresses }) => [device, network, mac, addresses.join(' ')]);
  return formatTable(['DEVICE', 'NETWORK', 'MAC', 'ADDRESSES'], rows);
}

function networkTable(networks: readonly Network[]): string {
  const rows = networks.map((network) => [
    network.name,
    network.subnet,
    String(network.ports),
    String(network.leases.length),
    formatAge(network.created_at),
  ]);
  return formatTable(['NAME', 'SUBNET', 'PORTS', 'LEASES', 'AGE'], rows);
}

function networkFields(network: Network): string {
  return formatFields([
    ['name', network.name],
    ['id', network.id],
    ['subnet', network.subnet],
    ['ports', String(network.ports)],
    ...network.leases.map((lease): [string, string] => [
      lease.address,
      `${lease.mac} ${lease.host_name ?? ''}`.trimEnd(),
    ]),
  ]);
}
