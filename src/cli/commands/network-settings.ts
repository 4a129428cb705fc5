/** `umlaut network create` and `update`: what a network is made with. */
import { type Command, InvalidArgumentError } from 'commander';
import {
  type NetworkCreateInput,
  type NetworkUpdateInput,
  parseTransport,
  type Transport,
} from '../../contracts/api/index.ts';
import { CommandContext } from '../context.ts';
import type { Io } from '../io.ts';
import { collect, NONE, orNull, parseCount } from '../parse.ts';

/** In an update `none` takes a setting back. */
interface SettingOptions {
  readonly domain?: string | typeof NONE;
  readonly pool?: { first: string; last: string } | typeof NONE;
  readonly leaseSeconds?: number;
  readonly uplink?: Transport | typeof NONE;
  readonly services?: boolean;
  readonly ipv6?: string | typeof NONE;
  readonly ipv6Dhcp?: boolean;
  readonly dnsServer?: string[];
  readonly hub?: boolean;
  readonly umlSocket?: boolean;
  readonly shared?: boolean;
}

interface CreateOptions extends SettingOptions {
  readonly subnet: string;
  readonly gateway?: string;
}

interface UpdateOptions extends SettingOptions {
  readonly name?: string;
}

export function registerNetworkCreate(network: Command, io: Io): void {
  const create = network
    .command('create')
    .argument('<name>')
    .requiredOption('--subnet <cidr>', 'such as 10.1.0.0/24')
    .option('--gateway <ip>', "the network's own address; the first of the subnet when missing")
    .description('make a network with DHCP and DNS');
  addSettings(create, (text) => text)
    .option('--no-services', 'without DHCP, DNS and gateway: for an uplink that has its own')
    .option('--ipv6-dhcp', 'stations get their IPv6 addresses by DHCPv6 and make none')
    .option('--hub', 'every frame goes to every port')
    .option('--uml-socket', 'offer a control socket for User-mode Linux, vde_plug and QEMU')
    .option('--shared', 'VMs of other tenants may be on it')
    .action(async (name: string, options: CreateOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const { subnet, gateway, services, ...rest } = options;
      // INVARIANT: only an update takes settings back.
      const settings = settingsOf({ ...rest, ...(!services && { services: false }) }) as Omit<
        NetworkCreateInput,
        'name' | 'subnet'
      >;
      const body = { name, subnet, ...(gateway !== undefined && { gateway }), ...settings };
      const made = await context.client.createNetwork(body);
      context.print(made, () => [made.name, made.uml_socket ?? ''].filter(Boolean).join(' ').concat('\n'));
    });
}

export function registerNetworkUpdate(network: Command, io: Io): void {
  const update = network
    .command('update')
    .argument('<network>')
    .option('--name <name>', 'a new name')
    .description('change a network; takes effect at once, "none" takes a setting back');
  addSettings(update, orNone)
    .option('--services', 'with DHCP, DNS and gateway again')
    .option('--no-services', 'without them: for an uplink that has its own')
    .option('--ipv6-dhcp', 'with --ipv6: stations get their addresses by DHCPv6 and make none')
    .option('--hub', 'every frame goes to every port')
    .option('--no-hub', 'frames go where their stations are')
    .option('--uml-socket', 'offer a control socket')
    .option('--no-uml-socket', 'remove it')
    .option('--shared', 'VMs of other tenants may be on it')
    .option('--no-shared', 'no further ones')
    .action(async (name: string, options: UpdateOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const body = { ...settingsOf(options), ...(options.name !== undefined && { name: options.name }) };
      const now = await context.client.updateNetwork(name, body);
      context.print(now, () => [now.name, now.uml_socket ?? ''].filter(Boolean).join(' ').concat('\n'));
    });
}

const orNone = (text: string): string | typeof NONE => (text === 'none' ? NONE : text);

/** `read` says what stands for a setting that is taken back. */
function addSettings(command: Command, read: (text: string) => string | typeof NONE): Command {
  const parsed =
    <T>(parse: (text: string) => T) =>
    (text: string): T | typeof NONE => {
      const known = read(text);
      return known === NONE ? NONE : parse(known);
    };
  return command
    .option('--domain <domain>', 'of the names of its VMs; NAME.internal when missing', read)
    .option('--pool <first-last>', 'addresses to give out, such as 10.1.0.100-10.1.0.200', parsed(parsePool))
    .option('--lease-seconds <seconds>', 'how long a DHCP lease lasts', parseCount)
    .option(
      '--uplink <transport>',
      'the way out: nat, daemon:SOCKET, tuntap:DEVICE, vde:FOLDER, ...',
      parsed((text) => parseTransport(text, '--uplink')),
    )
    .option('--ipv6 <prefix>', 'such as fd00:77::/64: router advertisements and DHCPv6', read)
    .option(
      '--dns-server <address>',
      'asked for other names, "host" for those of the host; may be repeated',
      collect,
    );
}

function settingsOf(options: SettingOptions): NetworkUpdateInput {
  const { domain, pool, leaseSeconds, uplink, services, ipv6, ipv6Dhcp, dnsServer, hub, umlSocket, shared } =
    options;
  const prefix =
    typeof ipv6 === 'string' && ({ prefix: ipv6, addressing: ipv6Dhcp === true ? 'dhcp' : 'slaac' } as const);
  const servers = dnsServer?.includes('none') === true ? null : dnsServer;
  const all = {
    ...{ lease_seconds: leaseSeconds, hub, uml_socket: umlSocket, shared },
    ...{ domain: orNull(domain), pool: orNull(pool), uplink: orNull(uplink) },
    ipv6: prefix || orNull(ipv6),
    dns_servers: servers,
    services,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

function parsePool(text: string): { first: string; last: string } {
  const [first, last, ...rest] = text.split('-');
  if (!first || !last || rest.length > 0) throw new InvalidArgumentError('Write it as FIRST-LAST.');
  return { first, last };
}
