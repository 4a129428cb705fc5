/** What a network's own station does: the gateway with DHCP and DNS, the metadata service, and NAT. */
import type { Segment } from './fabric/segment.ts';
import type { Located } from './nat/forwards.ts';
import { Nat } from './nat/nat.ts';
import { INTERNET_ONLY, NatPolicy } from './nat/policy.ts';
import type { NetworkOptions } from './protocol.ts';
import type { FrameBuffer } from './ring/frame-buffer.ts';
import { DnsForwarder } from './services/dns-forwarder.ts';
import { Gateway, type Stations } from './services/gateway.ts';
import { ADVERTISE_MS } from './services/gateway6.ts';
import type { LeaseTable } from './services/lease-table.ts';
import { type Documents, type MetadataOptions, MetadataService } from './services/metadata.ts';
import type { NetworkSettings } from './settings.ts';
import { uint32 } from './wire/dhcp.ts';

/** Monotonic. */
export const nowSeconds = (): number => performance.now() / 1000;

/** The network that they are of. */
export interface Served extends Stations {
  readonly segment: Segment;
  readonly leases: LeaseTable;
  /** The station that has an address of 4 or 16 bytes. */
  locate(address: Uint8Array): Located | undefined;
  /** The gateway's IPv6 address, in a network that has a prefix. */
  readonly gateway6: Uint8Array | undefined;
  documentsAt(slot: number): Documents | undefined;
  /** Sends a frame of the gateway's, by its present port. */
  emit(frame: FrameBuffer): void;
}

export class NetworkServices {
  readonly gateway: Gateway;
  readonly metadata: MetadataService;
  readonly nat: Nat | undefined;
  readonly #segment: Segment;
  readonly #forwarder: DnsForwarder | undefined;
  readonly #advertiser: NodeJS.Timeout | undefined;

  /** `nat` is that of the services before these, which goes on. */
  constructor(network: Served, options: NetworkOptions, settings: NetworkSettings, nat?: Nat) {
    const { segment, leases } = network;
    this.#segment = segment;
    const isNat = options.uplink?.kind === 'nat';
    this.#forwarder = options.dnsServers && new DnsForwarder(options.dnsServers);
    const sending = {
      mac: settings.gatewayMac,
      emit: (frame: FrameBuffer) => network.emit(frame),
      publish: () => segment.flush(),
      begin: () => segment.setTime(nowSeconds()),
    };
    this.gateway = new Gateway(segment, {
      ...settings,
      mac: settings.gatewayMac,
      ip: settings.gatewayIp,
      leases,
      stations: network,
      ipv6: settings.ipv6Prefix && {
        prefix: settings.ipv6Prefix,
        managed: options.ipv6?.addressing === 'dhcp',
        isRouter: isNat,
      },
      forwarder: this.#forwarder,
      later(send) {
        sending.begin();
        send();
        sending.publish();
      },
      isMute: options.services === false,
      now: nowSeconds,
    });
    this.metadata = new MetadataService({ ...sending, documentsAt: (slot) => network.documentsAt(slot) });
    this.gateway.metadata = this.metadata;
    if (settings.ipv6Prefix !== undefined) {
      this.#advertiser = setInterval(() => this.gateway.advertise(), ADVERTISE_MS).unref();
    }
    if (isNat) this.nat = nat ?? this.#makeNat(network, options, settings, sending);
    this.gateway.router = this.nat;
  }

  /** Unplugs the gateway. `nat` goes on when other services take it over. */
  close(nat: 'end' | 'keep'): void {
    if (nat === 'end') this.nat?.close();
    this.metadata.close();
    this.#forwarder?.close();
    clearInterval(this.#advertiser);
    this.#segment.remove(this.gateway.port);
  }

  #makeNat(
    network: Served,
    { nat }: NetworkOptions,
    { gatewayIp }: NetworkSettings,
    sending: Omit<MetadataOptions, 'documentsAt'>,
  ): Nat {
    return new Nat({
      ...sending,
      address: uint32(gatewayIp),
      policy: new NatPolicy(nat ?? INTERNET_ONLY),
      resolvers: nat?.resolvers,
      address6: () => network.gateway6,
      locate: (address) => network.locate(address),
    });
  }
}
