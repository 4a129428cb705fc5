/**
 * A port's firewall. What comes first among the rules of a direction decides; with rules, what none allows is dropped, and
 * without any in a direction everything may pass. It knows conversations: what answers something that was allowed may pass, and
 * so do ICMP errors about it. ARP, neighbor discovery and DHCP are never filtered: without them there is no network.
 */
import type { DropCause } from './drop-cause.ts';
import { compileRules, type FirewallRule, type RuleTest } from './firewall-rules.ts';
import { FLOW_WORDS, FlowTable } from './flow-table.ts';
import { IpPacket, PROTOCOL } from './ip-packet.ts';
import type { FrameRule, Passage } from './port.ts';

const ETHERTYPE_ARP = 0x0806;
/** What a flow's state says. */
const ANSWERED = 1;
const CLOSING = 2;
const FROM_US = 4;
const TCP_FIN_OR_RST = 0x05;
/** Seconds after which a silent flow is forgotten. */
const TIMEOUT = { tcpNew: 60, tcp: 7200, tcpClosing: 30, udpNew: 30, udp: 180, other: 30 } as const;
const FRAGMENTS_MAX = 256;
const FRAGMENT_SECONDS = 30;

type Direction = FirewallRule['direction'];

export class Firewall {
  readonly #rules: Readonly<Record<Direction, readonly RuleTest[]>>;
  readonly #flows = new FlowTable();
  readonly #packet = new IpPacket();
  readonly #quoted = new IpPacket();
  readonly #key = new Int32Array(FLOW_WORDS);
  /** Packets whose first fragment was allowed, until when later ones are. */
  readonly #fragments = new Map<string, number>();

  readonly #source: string;

  /** Throws AppError `invalid_input`. */
  constructor(rules: readonly FirewallRule[]) {
    this.#source = JSON.stringify(rules);
    this.#rules = { ingress: compileRules(rules, 'ingress'), egress: compileRules(rules, 'egress') };
  }

  /** Whether it has these rules: then it can stay, with what it knows of conversations. */
  has(rules: readonly FirewallRule[]): boolean {
    return JSON.stringify(rules) === this.#source;
  }

  /** For what the station sends; */
  readonly egress: FrameRule = (passage) => this.#check(passage, 'egress');
  /** for what it is sent. */
  readonly ingress: FrameRule = (passage) => this.#check(passage, 'ingress');

  #check(passage: Passage, direction: Direction): DropCause | undefined {
    const packet = this.#packet;
    const { frame, etherType, payloadAt, nowSeconds } = passage;
    const rules = this.#rules[direction];
    const at = frame.offset + payloadAt;
    if (!packet.read(frame.bytes, at, frame.offset + frame.length, etherType)) {
      return etherType === ETHERTYPE_ARP || rules.length === 0 ? undefined : 'firewall';
    }
    if (packet.isNeeded) return undefined;
    if (packet.isLaterFragment) return this.#checkFragment(packet, nowSeconds);
    const isAllowed = this.#isAllowed(packet, direction, nowSeconds);
    if (isAllowed && packet.isFirstFragment) this.#rememberFragment(packet, nowSeconds);
    return isAllowed ? undefined : 'firewall';
  }

  #isAllowed(packet: IpPacket, direction: Direction, now: number): boolean {
    this.#setKey(packet, direction === 'egress');
    const entry = this.#flows.find(this.#key, now);
    if (entry >= 0) {
      this.#refresh(entry, packet, direction, now);
      return true;
    }
    if (packet.isError && this.#isAboutKnown(packet, direction, now)) return true;
    if (!decide(this.#rules[direction], packet, direction === 'egress')) return false;
    const isNew = packet.protocol === PROTOCOL.TCP ? TIMEOUT.tcpNew : TIMEOUT.udpNew;
    // The error test overwrote the key.
    this.#setKey(packet, direction === 'egress');
    this.#flows.insert(this.#key, direction === 'egress' ? FROM_US : 0, now, now + isNew);
    return true;
  }

  #refresh(entry: number, packet: IpPacket, direction: Direction, now: number): void {
    let state = this.#flows.state(entry);
    if ((direction === 'egress') !== ((state & FROM_US) !== 0)) state |= ANSWERED;
    const isTcp = packet.protocol === PROTOCOL.TCP;
    if (isTcp && (packet.tcpFlags & TCP_FIN_OR_RST) !== 0) state |= CLOSING;
    this.#flows.set(entry, state, now + timeoutOf(packet.protocol, state));
  }

  /** An error is about a packet of ours: that one's source is who gets the error. */
  #isAboutKnown(packet: IpPacket, direction: Direction, now: number): boolean {
    const quoted = this.#quoted;
    if (!packet.readQuoted(quoted)) return false;
    this.#setKey(quoted, direction === 'ingress');
    return this.#flows.find(this.#key, now) >= 0;
  }

  #setKey(packet: IpPacket, isFromUs: boolean): void {
    const key = this.#key;
    packet.copyAddresses(key, isFromUs);
    const { sourcePort, destinationPort } = packet;
    key[8] = isFromUs ? (sourcePort << 16) | destinationPort : (destinationPort << 16) | sourcePort;
    key[9] = packet.protocol;
  }

  #checkFragment(packet: IpPacket, now: number): DropCause | undefined {
    const until = this.#fragments.get(packet.fragmentKey());
    return until !== undefined && until > now ? undefined : 'firewall';
  }

  #rememberFragment(packet: IpPacket, now: number): void {
    const key = packet.fragmentKey();
    this.#fragments.delete(key);
    const oldest = this.#fragments.size >= FRAGMENTS_MAX ? this.#fragments.keys().next().value : undefined;
    if (oldest !== undefined) this.#fragments.delete(oldest);
    this.#fragments.set(key, now + FRAGMENT_SECONDS);
  }
}

function decide(rules: readonly RuleTest[], packet: IpPacket, isFromUs: boolean): boolean {
  for (const { allows, matches } of rules) if (matches(packet, isFromUs)) return allows;
  return rules.length === 0;
}

function timeoutOf(protocol: number, state: number): number {
  const isAnswered = (state & ANSWERED) !== 0;
  if (protocol === PROTOCOL.TCP) {
    if ((state & CLOSING) !== 0) return TIMEOUT.tcpClosing;
    return isAnswered ? TIMEOUT.tcp : TIMEOUT.tcpNew;
  }
  if (protocol === PROTOCOL.UDP) return isAnswered ? TIMEOUT.udp : TIMEOUT.udpNew;
  return TIMEOUT.other;
}
