/**
 * Messages between the daemon's thread and the switch's worker thread.
 * A request carries an `id` and is answered by exactly one reply; events come unasked.
 */
import type { Transport } from '../contracts/api/transport.ts';
import type { MessagePort } from 'node:worker_threads';
import type { PlainError } from '../contracts/errors.ts';
import type { CaptureOptions } from './capture/messages.ts';
import type { FirewallRule } from './fabric/firewall-rules.ts';
import type { Protection } from './fabric/guard.ts';
import type { RateLimit, StormLimits } from './fabric/limits.ts';
import type { PortCounters } from './fabric/port.ts';
import type { NatPolicyOptions } from './nat/policy.ts';

export interface NetworkOptions {
  readonly id: string;
  /** A DNS label: the default domain is `NAME.internal`. */
  readonly name: string;
  /** `10.77.0.0/24`, from /8 to /30. */
  readonly subnet: string;
  /** The network's own address; the subnet's first when missing. */
  readonly gateway?: string | undefined;
  /** Addresses that DHCP hands out. When missing, all but the first nine (but the first, in subnets below 64 addresses). */
  readonly pool?: { readonly first: string; readonly last: string } | undefined;
  readonly domain?: string | undefined;
  /** 3600 when missing. */
  readonly leaseSeconds?: number | undefined;
  /** Every frame goes to every port. */
  readonly hub?: boolean | undefined;
  /**
   * Path of a Unix socket, for this user alone, on which processes that speak uml_switch's protocol join the network. Its
   * folder has to be there, and to be closed to others. The port `uml` is the trunk to them.
   */
  readonly umlSocket?: string | undefined;
  /** The network's prefix, `fd00:77::/64`; `dhcp`: stations get addresses by DHCPv6 in place of making them. */
  readonly ipv6?: { readonly prefix: string; readonly addressing: 'slaac' | 'dhcp' } | undefined;
  /** Who is asked for other names: addresses, and `host` for those that the host asks. */
  readonly dnsServers?: readonly string[] | undefined;
  /** IPv4 addresses that DHCP keeps for stations, in the pool or outside of it. */
  readonly reservations?: readonly Reservation[] | undefined;
  /** The way out; none when missing. */
  readonly uplink?: Transport | undefined;
  /** An uplink that cannot be opened now is an error; otherwise it is tried again until it can. */
  readonly uplinkRequired?: boolean | undefined;
  /** DHCP, DNS and the gateway's address; true when missing. */
  readonly services?: boolean | undefined;
  /** Where the uplink `nat` leads; to the Internet alone when missing. */
  readonly nat?: NatPolicyOptions | undefined;
}

export interface Reservation {
  readonly address: string;
  readonly mac: string;
}

/** A port of the host that leads to a station. */
export interface PortForward {
  readonly id: string;
  readonly protocol: 'tcp' | 'udp';
  readonly hostAddress: string;
  readonly hostPort: number;
  /** The station's IPv4 or IPv6 address. */
  readonly address: string;
  readonly port: number;
}

/** By IEEE 802.1Q. */
export type VlanSettings =
  | { readonly mode: 'access'; readonly id: number }
  /** `allowed`: ranges of tagged VLANs, ends included. `native`: of untagged frames, which are dropped without. */
  | {
      readonly mode: 'trunk';
      readonly allowed: readonly (readonly [first: number, last: number])[];
      readonly native?: number | undefined;
    };

/** What a port may do. */
export interface PortSettings {
  /** IPv4 and IPv6 addresses that are the station's. The first IPv4 address is the one that DHCP gives it. */
  readonly addresses?: readonly string[] | undefined;
  /** Access to VLAN 1 when missing. */
  readonly vlan?: VlanSettings | undefined;
  /** Of the others from this port. Kinds that are missing are on; without it the port may send what it likes. */
  readonly protection?: Partial<Protection> | undefined;
  readonly limits?:
    | { readonly fromPort?: RateLimit | undefined; readonly toPort?: RateLimit | undefined }
    | undefined;
  /** What the metadata service answers there, by path; nobody is there when missing. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** Rules in order; nothing is filtered when there are none. Other rules know nothing of the conversations so far. */
  readonly firewall?: readonly FirewallRule[] | undefined;
  /** What it may flood. A protected port has limits anyway. */
  readonly storm?: StormLimits | undefined;
  /** Stations that are learned on the port at a time; 1024 when missing. */
  readonly stationsMax?: number | undefined;
}

export interface AttachOptions extends PortSettings {
  readonly networkId: string;
  readonly portId: string;
  /** Host name of the VM, in DHCP and DNS. */
  readonly name: string;
  /** `aa:bb:cc:dd:ee:ff` */
  readonly mac: string;
}

export interface LeaseInfo {
  readonly mac: string;
  readonly address: string;
  /** Name of the VM that it was given to; null when that has left. */
  readonly hostName: string | null;
  readonly portId: string;
  readonly secondsLeft: number;
}

export interface PortInfo extends PortCounters {
  readonly id: string;
  /** IPv4 addresses that the port has by its settings or a lease. */
  readonly addresses: readonly string[];
  /** Host name of what is plugged in; null for the network's own gateway. */
  readonly name: string | null;
  /** Empty for a trunk, behind which there are stations of any address. */
  readonly mac: string;
  /** Frames that the VM's end dropped because the switch did not keep up, modulo 2^32. */
  readonly droppedBeforeSwitch: number;
}

export interface MacInfo {
  readonly mac: string;
  readonly vlan: number;
  readonly portId: string;
  readonly ageSeconds: number;
  /** It is known whose it is: the network's own, or a protected port's. */
  readonly fixed: boolean;
}

export type SwitchRequest =
  | { readonly type: 'create-network'; readonly options: NetworkOptions }
  /** All of them; the subnet and the gateway's address cannot change. */
  | { readonly type: 'configure-network'; readonly options: NetworkOptions }
  | { readonly type: 'delete-network'; readonly networkId: string }
  | { readonly type: 'attach'; readonly options: AttachOptions; readonly ring: SharedArrayBuffer }
  | {
      readonly type: 'configure-port';
      readonly networkId: string;
      readonly portId: string;
      readonly settings: PortSettings;
    }
  | { readonly type: 'detach'; readonly networkId: string; readonly portId: string }
  | {
      readonly type: 'capture';
      readonly networkId: string;
      readonly options: CaptureOptions;
      readonly port: MessagePort;
    }
  /** `mac` null: not any more. */
  | {
      readonly type: 'reserve';
      readonly networkId: string;
      readonly address: string;
      readonly mac: string | null;
    }
  | { readonly type: 'forward'; readonly networkId: string; readonly forward: PortForward }
  | { readonly type: 'unforward'; readonly networkId: string; readonly id: string }
  | { readonly type: 'uplink'; readonly networkId: string }
  | { readonly type: 'close' }
  | { readonly type: 'leases'; readonly networkId: string }
  | { readonly type: 'ports'; readonly networkId: string }
  | { readonly type: 'mac-table'; readonly networkId: string };

export interface SwitchWorkerData {
  /** Where the switch's threads note their descriptors (`Descriptors`). */
  readonly descriptors: SharedArrayBuffer;
}

export interface ToSwitch {
  readonly id: number;
  readonly request: SwitchRequest;
}

/** A port's ring was found broken: the port has been unplugged. */
export interface PortFault {
  readonly networkId: string;
  readonly portId: string;
  readonly detail: string;
}

export type FromSwitch =
  | { readonly type: 'ready' }
  | { readonly type: 'reply'; readonly id: number; readonly result: unknown }
  | { readonly type: 'reply-error'; readonly id: number; readonly error: PlainError }
  | { readonly type: 'port-fault'; readonly fault: PortFault };
