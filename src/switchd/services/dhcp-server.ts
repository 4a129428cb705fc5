/** A network's DHCPv4 server (RFC 2131 §4.3), the only one on it. */
import { BROADCAST_IP, BROADCAST_MAC, formatMac, inSubnet, type Subnet } from '../wire/address.ts';
import {
  addressOption,
  buildDhcpReply,
  DHCP_OPTION,
  DHCP_TYPE,
  type DhcpRequest,
  parseDhcpRequest,
  uint32,
} from '../wire/dhcp.ts';
import { DECLINE_SECONDS, type LeaseTable, OFFER_SECONDS } from './lease-table.ts';

export interface DhcpSettings {
  readonly subnet: Subnet;
  readonly serverIp: number;
  readonly domain: string;
  readonly leaseSeconds: number;
  readonly leases: LeaseTable;
}

/** The port a message came in on. */
export interface DhcpClientPort {
  readonly id: string;
  /** Host name of what is plugged in there; missing where there are several stations. */
  readonly name: string | undefined;
  /** The only station that may ask there; anyone when missing. */
  readonly mac: string | undefined;
}

export interface DhcpOutput {
  readonly payload: Uint8Array;
  readonly destinationMac: Uint8Array;
  readonly destinationIp: number;
}

type Option = readonly [code: number, value: Uint8Array];

export class DhcpServer {
  readonly #settings: DhcpSettings;

  constructor(settings: DhcpSettings) {
    this.#settings = settings;
  }

  /** Handles a message to the server port; undefined when nothing is to be sent. `now` is in seconds. */
  handle(payload: Uint8Array, port: DhcpClientPort, now: number): DhcpOutput | undefined {
    const request = parseDhcpRequest(payload);
    // There are no relays on a virtual network.
    if (request === undefined || request.relayIp !== 0) return undefined;
    if (port.mac !== undefined && port.mac !== formatMac(request.clientMac)) return undefined;
    switch (request.type) {
      case DHCP_TYPE.discover:
        return this.#discover(request, port, now);
      case DHCP_TYPE.request:
        return this.#request(request, port, now);
      case DHCP_TYPE.decline:
        this.#decline(request, port, now);
        return undefined;
      case DHCP_TYPE.release:
        this.#release(request, port, now);
        return undefined;
      case DHCP_TYPE.inform:
        return this.#inform(request, port);
      default:
        return undefined;
    }
  }

  #discover(request: DhcpRequest, port: DhcpClientPort, now: number): DhcpOutput | undefined {
    const { leases } = this.#settings;
    const mac = formatMac(request.clientMac);
    const own = leases.of(mac, now);
    const wanted = addressOption(request.options, DHCP_OPTION.requestedAddress);
    const ip = leases.choose(mac, wanted, now);
    if (ip === undefined) return undefined;
    // A bound lease stays bound: its owner may be the one who is asked about.
    if (own?.state !== 'bound') {
      const offer = { ip, mac, port: port.id, state: 'offered', expires: now + OFFER_SECONDS } as const;
      if (!leases.put(offer, now)) return undefined;
    }
    return this.#leaseReply(DHCP_TYPE.offer, request, port, ip);
  }

  #request(request: DhcpRequest, port: DhcpClientPort, now: number): DhcpOutput | undefined {
    const { leases, serverIp } = this.#settings;
    const mac = formatMac(request.clientMac);
    const chosenServer = addressOption(request.options, DHCP_OPTION.serverId);
    if (chosenServer !== undefined && chosenServer !== serverIp) {
      const offered = leases.of(mac, now);
      if (offered?.state === 'offered') leases.remove(offered.ip);
      return undefined;
    }
    // SELECTING and INIT-REBOOT name the address in an option, RENEWING and REBINDING in 'ciaddr'.
    const ip = addressOption(request.options, DHCP_OPTION.requestedAddress) ?? request.clientIp;
    if (!this.#mayHave(ip, mac, now)) return this.#nak(request);
    const expires = now + this.#settings.leaseSeconds;
    if (!leases.put({ ip, mac, port: port.id, state: 'bound', expires }, now)) return this.#nak(request);
    return this.#leaseReply(DHCP_TYPE.ack, request, port, ip);
  }

  /** An unknown client may keep a free address: as the network's only server, this one can say so. */
  #mayHave(ip: number, mac: string, now: number): boolean {
    const holder = this.#settings.leases.at(ip, now);
    if (holder !== undefined && (holder.mac !== mac || holder.state === 'declined')) return false;
    return this.#settings.leases.isFor(ip, mac);
  }

  #decline(request: DhcpRequest, port: DhcpClientPort, now: number): void {
    const { leases } = this.#settings;
    const mac = formatMac(request.clientMac);
    const ip = addressOption(request.options, DHCP_OPTION.requestedAddress);
    const own = leases.of(mac, now);
    // An address that is kept for its station is not given up: there is no other for it.
    if (ip === undefined || own?.ip !== ip || own.port !== port.id || leases.isReserved(ip)) return;
    leases.put({ ip, mac, port: port.id, state: 'declined', expires: now + DECLINE_SECONDS }, now);
  }

  #release(request: DhcpRequest, port: DhcpClientPort, now: number): void {
    const { leases } = this.#settings;
    const entry = leases.of(formatMac(request.clientMac), now);
    if (entry?.ip === request.clientIp && entry.port === port.id) leases.remove(entry.ip);
  }

  #inform(request: DhcpRequest, port: DhcpClientPort): DhcpOutput | undefined {
    const { subnet, serverIp } = this.#settings;
    if (!inSubnet(request.clientIp, subnet)) return undefined;
    const options = [...this.#networkOptions(port), ...echoedOptions(request)];
    const payload = buildDhcpReply({ type: DHCP_TYPE.ack, request, yourIp: 0, serverIp, options });
    return { payload, destinationMac: request.clientMac, destinationIp: request.clientIp };
  }

  #nak(request: DhcpRequest): DhcpOutput {
    const { serverIp } = this.#settings;
    const options = echoedOptions(request);
    const payload = buildDhcpReply({ type: DHCP_TYPE.nak, request, yourIp: 0, serverIp, options });
    return { payload, destinationMac: BROADCAST_MAC, destinationIp: BROADCAST_IP };
  }

  /** OFFER or ACK, sent as RFC 2131 §4.1 says. */
  #leaseReply(type: number, request: DhcpRequest, port: DhcpClientPort, ip: number): DhcpOutput {
    const { leaseSeconds, serverIp } = this.#settings;
    const options = [
      [DHCP_OPTION.leaseSeconds, uint32(leaseSeconds)] as const,
      [DHCP_OPTION.renewalSeconds, uint32(Math.floor(leaseSeconds / 2))] as const,
      [DHCP_OPTION.rebindingSeconds, uint32(Math.floor((leaseSeconds * 7) / 8))] as const,
      ...this.#networkOptions(port),
      ...echoedOptions(request),
    ];
    const payload = buildDhcpReply({ type, request, yourIp: ip, serverIp, options });
    if (request.clientIp !== 0 && type === DHCP_TYPE.ack) {
      return { payload, destinationMac: request.clientMac, destinationIp: request.clientIp };
    }
    if (request.broadcast) return { payload, destinationMac: BROADCAST_MAC, destinationIp: BROADCAST_IP };
    return { payload, destinationMac: request.clientMac, destinationIp: ip };
  }

  #networkOptions(port: DhcpClientPort): Option[] {
    const { subnet, serverIp, domain } = this.#settings;
    return [
      [DHCP_OPTION.subnetMask, uint32(subnet.mask)],
      [DHCP_OPTION.router, uint32(serverIp)],
      [DHCP_OPTION.dns, uint32(serverIp)],
      ...hostName(port.name),
      [DHCP_OPTION.domainName, ascii(domain)],
      [DHCP_OPTION.broadcast, uint32(subnet.broadcast)],
    ];
  }
}

function hostName(name: string | undefined): Option[] {
  return name === undefined ? [] : [[DHCP_OPTION.hostName, ascii(name)]];
}

/** The client identifier goes back as it came (RFC 6842). */
function echoedOptions(request: DhcpRequest): Option[] {
  const id = request.options.get(DHCP_OPTION.clientId);
  return id === undefined ? [] : [[DHCP_OPTION.clientId, id]];
}

function ascii(text: string): Uint8Array {
  return Buffer.from(text, 'latin1').subarray(0, 255);
}
