/**
 * Asks the host's name servers what a network's own knows nothing of. Each question has a socket, and so a port that nobody can
 * guess, and a number of its own (RFC 5452 §9).
 */
import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { getServers } from 'node:dns';
import { isIPv6 } from 'node:net';
import { DNS_PORT } from '../wire/dns.ts';

/** Questions of one network that wait for an answer; more are dropped, and asked again by who has asked. */
const WAITING_MAX = 256;
const ANSWER_MS = 3000;
const SERVERS_MAX = 3;
const HEADER_BYTES = 12;
/** What fits into a frame with all headers. A longer answer is cut, and asked for by TCP. */
const ANSWER_BYTES_MAX = 1232;
const FLAGS_AT = 2;
const FLAG_RESPONSE = 0x8000;
const FLAG_TRUNCATED = 0x0200;

export class DnsForwarder {
  readonly #servers: () => readonly string[];
  readonly #open = new Set<() => void>();

  /** `servers`: addresses, with `:port` if it is another than 53, and `host` for the host's own; those alone when missing. */
  constructor(servers: readonly string[] = ['host']) {
    this.#servers = () => servers.flatMap((server) => (server === 'host' ? getServers() : [server]));
  }

  /** For TCP. */
  get server(): { readonly host: string; readonly port: number } | undefined {
    const [first] = this.#servers();
    if (first === undefined) return undefined;
    const { address, port } = serverOf(first);
    return { host: address, port };
  }

  /** Calls `reply` once with the answer, or never. */
  resolve(query: Uint8Array, reply: (answer: Uint8Array) => void): void {
    if (query.length < HEADER_BYTES || this.#open.size >= WAITING_MAX) return;
    this.#ask(Buffer.from(query), this.#servers().slice(0, SERVERS_MAX), reply);
  }

  close(): void {
    for (const end of [...this.#open]) end();
  }

  /** Of the first server, and if it does not answer of the others in turn. */
  #ask(query: Buffer, servers: readonly string[], reply: (answer: Uint8Array) => void): void {
    const [first, ...others] = servers;
    if (first === undefined) return;
    const { address, port } = serverOf(first);
    const ours = Buffer.from(query);
    ours.writeUInt16BE(randomInt(0x1_0000), 0);
    const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
    const end = (): void => {
      clearTimeout(timer);
      if (this.#open.delete(end)) socket.close();
    };
    const next = (): void => {
      end();
      this.#ask(query, others, reply);
    };
    const timer = setTimeout(next, ANSWER_MS);
    timer.unref();
    this.#open.add(end);
    socket.on('error', next);
    // Connected: the kernel drops what comes from others, and tells when nobody is there.
    socket.on('connect', () => socket.send(ours));
    socket.on('message', (answer) => {
      const isOurs = answer.length >= HEADER_BYTES && answer.readUInt16BE(0) === ours.readUInt16BE(0);
      if (!isOurs || (answer.readUInt16BE(FLAGS_AT) & FLAG_RESPONSE) === 0) return;
      end();
      const whole = answer.length <= ANSWER_BYTES_MAX ? answer : truncated(query, answer);
      whole.writeUInt16BE(query.readUInt16BE(0), 0);
      reply(whole);
    });
    socket.connect(port, address);
  }
}

/** The question alone, with the flag that there is more. */
function truncated(query: Buffer, answer: Buffer): Buffer {
  const cut = Buffer.from(query);
  cut.writeUInt16BE(answer.readUInt16BE(FLAGS_AT) | FLAG_TRUNCATED, FLAGS_AT);
  // The question's additional record, if any, stays.
  return cut;
}

/** `ADDRESS`, `IPV4:PORT` or `[IPV6]:PORT`. */
function serverOf(text: string): { readonly address: string; readonly port: number } {
  const parsed = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(text);
  if (parsed === null) return { address: text, port: DNS_PORT };
  return { address: parsed[1] ?? parsed[2]!, port: parsed[3] === undefined ? DNS_PORT : Number(parsed[3]) };
}
