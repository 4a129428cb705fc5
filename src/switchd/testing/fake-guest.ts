/** A guest for tests: the VM's end of a port, with frames written and read as bytes. */
import {
  type Attachment,
  type PortSettings,
  type SwitchHandle,
  type SwitchOptions,
  startSwitch,
} from '../index.ts';
import { openNicPort, type RingNicPort } from '../port-rings.ts';
import { formatMac, parseIp, parseMac } from '../wire/address.ts';
import { buildEthernet, ETHERTYPE_IPV4, parseEthernet } from '../wire/ethernet.ts';
import { buildIpv4, PROTOCOL_UDP, parseIpv4 } from '../wire/ipv4.ts';
import { buildUdp, parseUdp } from '../wire/udp.ts';

/** IEEE 802 local experimental EtherType 1. */
export const TEST_ETHERTYPE = 0x88b5;
export const BROADCAST = 'ff:ff:ff:ff:ff:ff';
const WAIT_MS = 5000;

export class FakeGuest {
  readonly mac: string;
  readonly attachment: Attachment;
  readonly nic: RingNicPort;
  /** Everything received and not yet taken. */
  readonly inbox: Uint8Array[] = [];
  #onFrame: (() => void) | undefined;

  constructor(mac: string, attachment: Attachment) {
    this.mac = mac;
    this.attachment = attachment;
    this.nic = openNicPort(attachment.ring);
    this.nic.onReadable(() => this.#read());
  }

  /** Sends a test frame whose payload is `text`. */
  say(to: string, text: string, from = this.mac): void {
    const payload = Buffer.from(text);
    this.nic.send([
      buildEthernet({ destination: bytesOf(to), source: bytesOf(from), type: TEST_ETHERTYPE, payload }),
    ]);
  }

  /** Takes the next frame that `matches`; what came before it is dropped. */
  async take(matches: (frame: Uint8Array) => boolean): Promise<Uint8Array> {
    // The timer alone says that the time is over: by another clock it may be some microseconds early.
    let isOver = false;
    const deadline = setTimeout(() => {
      isOver = true;
      this.#onFrame?.();
    }, WAIT_MS);
    try {
      while (!isOver) {
        const index = this.inbox.findIndex(matches);
        if (index >= 0) return this.inbox.splice(0, index + 1).at(-1)!;
        await new Promise<void>((resolve) => {
          this.#onFrame = resolve;
        });
      }
      throw new Error(`${this.mac} did not get the frame it waited for`);
    } finally {
      clearTimeout(deadline);
    }
  }

  /** Waits for `text` and returns the payloads of all test frames that came before it. */
  async hear(text: string): Promise<string[]> {
    const heard: string[] = [];
    await this.take((frame) => {
      const said = textOf(frame);
      if (said !== undefined && said !== text && !heard.includes(said)) heard.push(said);
      return said === text;
    });
    return heard;
  }

  sendUdp(datagram: FakeDatagram): void {
    const { fromPort, toPort, payload } = datagram;
    const source = parseIp(datagram.from)!;
    const destination = parseIp(datagram.to)!;
    const udp = buildUdp({ sourcePort: fromPort, destinationPort: toPort, payload }, source, destination);
    const packet = buildIpv4({ source, destination, protocol: PROTOCOL_UDP, payload: udp });
    const mac = bytesOf(this.mac);
    const toMac = bytesOf(datagram.toMac);
    this.nic.send([
      buildEthernet({ destination: toMac, source: mac, type: ETHERTYPE_IPV4, payload: packet }),
    ]);
  }

  /** Sends a datagram and takes the next one that comes from the port it went to. */
  async ask(datagram: FakeDatagram): Promise<UdpReply> {
    this.sendUdp(datagram);
    const frame = await this.take((bytes) => udpOf(bytes)?.sourcePort === datagram.toPort);
    return udpOf(frame)!;
  }

  #read(): void {
    for (let frame = this.nic.receive(); frame !== undefined; frame = this.nic.receive()) {
      this.inbox.push(Uint8Array.from(frame));
    }
    this.#onFrame?.();
  }
}

export interface FakeDatagram {
  readonly toMac: string;
  readonly from: string;
  readonly to: string;
  readonly fromPort: number;
  readonly toPort: number;
  readonly payload: Uint8Array;
}

export interface UdpReply {
  readonly destinationMac: string;
  readonly destinationIp: number;
  readonly sourcePort: number;
  readonly payload: Uint8Array;
}

function udpOf(frame: Uint8Array): UdpReply | undefined {
  const ethernet = parseEthernet(frame);
  const packet = ethernet?.type === ETHERTYPE_IPV4 ? parseIpv4(ethernet.payload) : undefined;
  const udp = packet?.protocol === PROTOCOL_UDP ? parseUdp(packet.payload) : undefined;
  if (ethernet === undefined || packet === undefined || udp === undefined) return undefined;
  return {
    destinationMac: formatMac(ethernet.destination),
    destinationIp: packet.destination,
    sourcePort: udp.sourcePort,
    payload: udp.payload,
  };
}

export function textOf(frame: Uint8Array): string | undefined {
  const ethernet = parseEthernet(frame);
  return ethernet?.type === TEST_ETHERTYPE ? Buffer.from(ethernet.payload).toString() : undefined;
}

export function bytesOf(mac: string): Uint8Array {
  const bytes = parseMac(mac);
  if (bytes === undefined) throw new Error(`${mac} is no MAC address`);
  return bytes;
}

/** `02:00:00:00:00:NN` */
export function macOf(number: number): string {
  return `02:00:00:00:00:${number.toString(16).padStart(2, '0')}`;
}

/** A running switch with a network `net` of 10.77.0.0/24 and a domain `lab.internal`. */
export async function labSwitch(options: Partial<SwitchOptions> = {}): Promise<SwitchHandle> {
  const onError = (error: Error): never => {
    throw error;
  };
  const handle = await startSwitch({ onError, ...options });
  await handle.createNetwork({ id: 'net', name: 'lab', subnet: '10.77.0.0/24' });
  return handle;
}

export async function plugIn(
  handle: SwitchHandle,
  number: number,
  networkId = 'net',
  settings: PortSettings = {},
): Promise<FakeGuest> {
  const mac = macOf(number);
  const options = { ...settings, networkId, portId: `port-${number}`, name: `vm-${number}`, mac };
  return new FakeGuest(mac, await handle.attach(options));
}
