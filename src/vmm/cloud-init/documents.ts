/** What cloud-init is told of a VM, in the forms of its data sources: NoCloud, EC2 and OpenStack. */
import type { CloudInit } from '../../contracts/api/index.ts';

export interface Instance {
  readonly id: string;
  readonly name: string;
  /** In order: eth0 is the first. */
  readonly cards: readonly Card[];
}

export interface Card {
  readonly device: string;
  readonly mac: string;
  /** The first IPv4 address is given by DHCP. */
  readonly addresses: readonly string[];
  /** Bits of the IPv4 subnet's prefix. */
  readonly prefixLength: number;
}

/** Files of a NoCloud seed. */
export interface Seed {
  readonly 'meta-data': string;
  readonly 'user-data': string;
  readonly 'network-config': string;
  readonly 'vendor-data': string;
}

/** JSON is YAML, so what is made here is that. */
export function seedOf(instance: Instance, settings: CloudInit): Seed {
  const metaData = {
    'instance-id': instance.id,
    'local-hostname': hostName(instance, settings),
    'public-keys': settings.ssh_keys ?? [],
  };
  return {
    'meta-data': lines(metaData),
    'user-data': settings.user_data ?? '#cloud-config\n{}\n',
    'network-config': settings.network_config ?? lines(networkConfig(instance.cards)),
    'vendor-data': '',
  };
}

/** By path, what the metadata service answers. A path that ends in a slash is a list that is not made of what is below. */
export function documentsOf(instance: Instance, settings: CloudInit): Record<string, string> {
  const documents: Record<string, string> = {};
  for (const [name, content] of Object.entries(seedOf(instance, settings)))
    documents[`nocloud/${name}`] = content;
  return { ...documents, ...ec2Documents(instance, settings), ...openStackDocuments(instance, settings) };
}

function ec2Documents(instance: Instance, settings: CloudInit): Record<string, string> {
  const at = 'latest/meta-data';
  const name = hostName(instance, settings);
  const documents: Record<string, string> = {
    [`${at}/ami-id`]: instance.id,
    [`${at}/instance-id`]: instance.id,
    [`${at}/instance-type`]: 'umlaut',
    [`${at}/hostname`]: name,
    [`${at}/local-hostname`]: name,
    [`${at}/placement/availability-zone`]: 'umlaut',
  };
  if (settings.user_data !== undefined) documents['latest/user-data'] = settings.user_data;
  const [first] = instance.cards;
  const ip = first && ipv4Of(first)[0];
  if (first !== undefined) documents[`${at}/mac`] = first.mac;
  if (ip !== undefined) documents[`${at}/local-ipv4`] = ip;
  for (const [index, card] of instance.cards.entries()) {
    const below = `${at}/network/interfaces/macs/${card.mac}`;
    documents[`${below}/device-number`] = String(index);
    documents[`${below}/mac`] = card.mac;
    if (ipv4Of(card).length > 0) documents[`${below}/local-ipv4s`] = ipv4Of(card).join('\n');
    if (ipv6Of(card).length > 0) documents[`${below}/ipv6s`] = ipv6Of(card).join('\n');
  }
  const keys = settings.ssh_keys ?? [];
  for (const [index, key] of keys.entries()) documents[`${at}/public-keys/${index}/openssh-key`] = key;
  if (keys.length > 0)
    documents[`${at}/public-keys/`] = keys.map((_key, index) => `${index}=key-${index}`).join('\n');
  return documents;
}

function openStackDocuments(instance: Instance, settings: CloudInit): Record<string, string> {
  const name = hostName(instance, settings);
  const keys = settings.ssh_keys ?? [];
  const metaData = {
    uuid: instance.id,
    name: instance.name,
    hostname: name,
    availability_zone: 'umlaut',
    public_keys: Object.fromEntries(keys.map((key, index) => [`key-${index}`, key])),
    keys: keys.map((data, index) => ({ name: `key-${index}`, type: 'ssh', data })),
  };
  const links = instance.cards.map(({ device, mac }) => ({
    id: device,
    type: 'phy',
    ethernet_mac_address: mac,
    mtu: 1500,
  }));
  const networks = instance.cards.map(({ device }) => ({ id: device, link: device, type: 'ipv4_dhcp' }));
  const at = 'openstack/latest';
  return {
    [`${at}/meta_data.json`]: lines(metaData),
    [`${at}/network_data.json`]: lines({ links, networks, services: [] }),
    [`${at}/vendor_data.json`]: '{}\n',
    ...(settings.user_data === undefined ? {} : { [`${at}/user_data`]: settings.user_data }),
  };
}

/** Version 2, each card by its MAC address: the first IPv4 address by DHCP, the others as they are. */
function networkConfig(cards: readonly Card[]): object {
  const ethernets = cards.map((card): [string, object] => {
    const others = ipv4Of(card).slice(1);
    const addresses = [
      ...others.map((address) => `${address}/${card.prefixLength}`),
      ...ipv6Of(card).map((address) => `${address}/64`),
    ];
    const match = { macaddress: card.mac };
    return [card.device, { match, dhcp4: true, ...(addresses.length > 0 && { addresses }) }];
  });
  return { version: 2, ethernets: Object.fromEntries(ethernets) };
}

const hostName = (instance: Instance, settings: CloudInit): string => settings.host_name ?? instance.name;
const ipv4Of = ({ addresses }: Card): string[] => addresses.filter((address) => !address.includes(':'));
const ipv6Of = ({ addresses }: Card): string[] => addresses.filter((address) => address.includes(':'));
const lines = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
