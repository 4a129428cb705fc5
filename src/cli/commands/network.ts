/** `umlaut network …` */
import type { Command } from 'commander';
import type { Network, NetworkAddress, NetworkPort, NetworkStation, Nic } from '../../contracts/api/index.ts';
import { parseTransport, type Transport } from '../../contracts/api/index.ts';
import { registerCapture } from './network-capture.ts';
import { CommandContext } from '../context.ts';
import { formatAge, formatBytes, formatFields, formatTable } from '../format.ts';
import type { Io } from '../io.ts';
import { registerForward } from './forward.ts';
import { registerNetworkCreate, registerNetworkUpdate } from './network-settings.ts';
import { addNicOptions, type NicOptions, nicSettings } from './nic-options.ts';
import { nicPlace, transportText } from '../nic-text.ts';

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
  registerNetworkCreate(network, io);
  registerNetworkUpdate(network, io);
  network
    .command('delete')
    .argument('<network>')
    .description('delete a network that no VM is on')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      await context.client.deleteNetwork(name);
      context.print({ deleted: name }, () => `${name} deleted\n`);
    });
  registerViews(network, io);
  registerCapture(network, io);
  registerReservations(network, io);
  registerCards(network, io);
  registerForward(network, io);
}

function registerViews(network: Command, io: Io): void {
  network
    .command('ports')
    .argument('<network>')
    .description('what is plugged in, with counters')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.listNetworkPorts(name), portTable);
    });
  network
    .command('macs')
    .argument('<network>')
    .description('which station is at which port')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.listNetworkStations(name), stationTable);
    });
  network
    .command('addresses')
    .argument('<network>')
    .description('whose the addresses are')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.listNetworkAddresses(name), addressTable);
    });
}

function registerReservations(network: Command, io: Io): void {
  network
    .command('reserve')
    .argument('<network>')
    .argument('<address>')
    .argument('<mac>')
    .description('keep an address for a station that is no VM of the daemon')
    .action(async (name: string, address: string, mac: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      const made = await context.client.reserveAddress(name, { address, mac });
      context.print(made, () => `${made.address} is kept for ${made.mac}\n`);
    });
  network
    .command('release')
    .argument('<network>')
    .argument('<address>')
    .description('end a reservation')
    .action(async (name: string, address: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      await context.client.releaseAddress(name, address);
      context.print({ released: address }, () => `${address} released\n`);
    });
}

interface AttachOptions extends NicOptions {
  readonly device?: string;
  readonly mac?: string;
  readonly transport?: Transport;
}

function parseNicTransport(text: string): Transport {
  return parseTransport(text, '--transport');
}

function registerCards(network: Command, io: Io): void {
  const attach = network
    .command('attach')
    .argument('<vm>')
    .argument('[network]', '`default` when missing, unless it has a transport')
    .option(
      '--transport <transport>',
      'in place of a network: nat, daemon:SOCKET, tuntap:DEVICE, vde:FOLDER, ...',
      parseNicTransport,
    )
    .option('--device <device>', 'eth0 to eth7; the first free one when missing')
    .option('--mac <mac>', 'its address; one of its own when missing')
    .description('give a VM a network card; a guest that runs finds it by itself');
  addNicOptions(attach, true).action(
    async (vm: string, name: string | undefined, options: AttachOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const { device, mac, transport } = options;
      // INVARIANT: only `configure` takes settings back, which are null then.
      const settings = nicSettings(options) as Parameters<typeof context.client.attachNic>[1];
      const now = await context.client.attachNic(vm, {
        ...settings,
        ...(name !== undefined && { network: name }),
        ...(transport !== undefined && { transport }),
        ...(device !== undefined && { device }),
        ...(mac !== undefined && { mac }),
      });
      context.print(now, () => nicTable(now.nics));
    },
  );
  const configure = network
    .command('configure')
    .argument('<vm>')
    .argument('<device>', 'eth0, …')
    .description('change what a network card may do; takes effect at once');
  addNicOptions(configure, false).action(
    async (vm: string, device: string, options: NicOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const now = await context.client.updateNic(vm, device, nicSettings(options));
      context.print(now, () => nicTable(now.nics));
    },
  );
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
  const rows = nics.map((nic) => [nic.device, nicPlace(nic), nic.mac, nic.addresses.join(' ')]);
  return formatTable(['DEVICE', 'NETWORK', 'MAC', 'ADDRESSES'], rows);
}

function networkTable(networks: readonly Network[]): string {
  const rows = networks.map((network) => [
    network.name,
    network.tenant,
    network.subnet,
    String(network.ports),
    String(network.leases.length),
    formatAge(network.created_at),
  ]);
  return formatTable(['NAME', 'TENANT', 'SUBNET', 'PORTS', 'LEASES', 'AGE'], rows);
}

function networkFields(network: Network): string {
  return formatFields([
    ['name', network.name],
    ['id', network.id],
    ['tenant', network.shared ? `${network.tenant}, shared with others` : network.tenant],
    ['subnet', network.subnet],
    ['uplink', uplinkText(network)],
    ...(network.hub === true ? [['hub', 'yes'] as [string, string]] : []),
    ...(network.uml_socket === null ? [] : [['socket', network.uml_socket] as [string, string]]),
    ['ports', String(network.ports)],
    ...network.leases.map((lease): [string, string] => [
      lease.address,
      `${lease.mac} ${lease.host_name ?? ''}`.trimEnd(),
    ]),
  ]);
}

function uplinkText({ uplink, uplink_state: state }: Network): string {
  if (uplink === undefined) return 'none';
  return transportText(uplink, state);
}

function portTable(ports: readonly NetworkPort[]): string {
  const rows = ports.map((port) => [
    port.id,
    port.name ?? '',
    port.mac,
    port.addresses.join(' '),
    `${port.tx_frames} (${formatBytes(port.tx_bytes)})`,
    `${port.rx_frames} (${formatBytes(port.rx_bytes)})`,
    Object.entries(port.drops)
      .filter(([, count]) => count > 0)
      .map(([cause, count]) => `${cause} ${count}`)
      .join(', '),
  ]);
  return formatTable(['PORT', 'NAME', 'MAC', 'ADDRESSES', 'SENT', 'RECEIVED', 'DROPPED'], rows);
}

function stationTable(stations: readonly NetworkStation[]): string {
  const rows = stations.map(({ mac, vlan, port, age_seconds, fixed }) => [
    mac,
    String(vlan),
    port,
    fixed ? 'fixed' : `${age_seconds} s`,
  ]);
  return formatTable(['MAC', 'VLAN', 'PORT', 'AGE'], rows);
}

function addressTable(addresses: readonly NetworkAddress[]): string {
  const rows = addresses.map(({ address, mac, vm_id, device }) => [
    address,
    mac,
    vm_id === null ? 'reserved' : `${vm_id}/${device}`,
  ]);
  return formatTable(['ADDRESS', 'MAC', 'OF'], rows);
}
