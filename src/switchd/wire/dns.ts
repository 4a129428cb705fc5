/** The part of DNS (RFC 1035 §4) that an answering server needs: one question in, address and name records out. */
import { viewOf } from './view.ts';

export const DNS_PORT = 53;
export const DNS_TYPE = { a: 1, ptr: 12, aaaa: 28, opt: 41, any: 255 } as const;
export const DNS_CLASS_IN = 1;
const DNS_CLASS_ANY = 255;
export const DNS_RCODE = { ok: 0, formatError: 1, noSuchName: 3, notImplemented: 4, refused: 5 } as const;

const HEADER_BYTES = 12;
const NAME_BYTES_MAX = 255;
/** Points at the question's name, which always starts after the header. */
const QUESTION_NAME = 0xc000 | HEADER_BYTES;
const FLAG_RESPONSE = 0x8000;
const FLAG_AUTHORITATIVE = 0x0400;
const FLAG_RECURSION_DESIRED = 0x0100;

export interface DnsQuery {
  readonly id: number;
  readonly opcode: number;
  readonly recursionDesired: boolean;
  /** Missing when the message does not have exactly one well-formed question. */
  readonly question: DnsQuestion | undefined;
}
export interface DnsQuestion {
  /** Lower case, without the final dot. */
  readonly name: string;
  readonly type: number;
  readonly isInternet: boolean;
  /** As it was asked: name, type and class. */
  readonly bytes: Uint8Array;
}

/** Undefined when it is no query at all, which gets no answer. */
export function parseDnsQuery(bytes: Uint8Array): DnsQuery | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  const view = viewOf(bytes);
  const flags = view.getUint16(2);
  if ((flags & FLAG_RESPONSE) !== 0) return undefined;
  return {
    id: view.getUint16(0),
    opcode: (flags >> 11) & 15,
    recursionDesired: (flags & FLAG_RECURSION_DESIRED) !== 0,
    question: view.getUint16(4) === 1 ? parseQuestion(bytes) : undefined,
  };
}

function parseQuestion(bytes: Uint8Array): DnsQuestion | undefined {
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (;;) {
    const length = bytes[at];
    // The first name of a message has nothing to point at, so compression (0xc0) is an error too.
    if (length === undefined || length > 63 || at - HEADER_BYTES > NAME_BYTES_MAX) return undefined;
    at++;
    if (length === 0) break;
    if (at + length > bytes.length) return undefined;
    labels.push(String.fromCharCode(...bytes.subarray(at, at + length)));
    at += length;
  }
  if (at + 4 > bytes.length) return undefined;
  const view = viewOf(bytes);
  const dnsClass = view.getUint16(at + 2);
  return {
    name: labels.join('.').toLowerCase(),
    type: view.getUint16(at),
    isInternet: dnsClass === DNS_CLASS_IN || dnsClass === DNS_CLASS_ANY,
    bytes: bytes.subarray(HEADER_BYTES, at + 4),
  };
}

export interface DnsAnswer {
  readonly type: number;
  readonly data: Uint8Array;
}

export interface DnsReply {
  readonly query: DnsQuery;
  readonly rcode: number;
  /** All of them about the question's name. */
  readonly answers: readonly DnsAnswer[];
  readonly ttlSeconds: number;
}

export function buildDnsReply(reply: DnsReply): Uint8Array {
  const { query, answers } = reply;
  const question = query.question?.bytes ?? new Uint8Array(0);
  const size = answers.reduce((sum, answer) => sum + 12 + answer.data.length, HEADER_BYTES + question.length);
  const bytes = new Uint8Array(size);
  const view = viewOf(bytes);
  const recursion = query.recursionDesired ? FLAG_RECURSION_DESIRED : 0;
  view.setUint16(0, query.id);
  view.setUint16(2, FLAG_RESPONSE | FLAG_AUTHORITATIVE | recursion | (query.opcode << 11) | reply.rcode);
  view.setUint16(4, query.question === undefined ? 0 : 1);
  view.setUint16(6, answers.length);
  bytes.set(question, HEADER_BYTES);
  let at = HEADER_BYTES + question.length;
  for (const answer of answers) {
    view.setUint16(at, QUESTION_NAME);
    view.setUint16(at + 2, answer.type);
    view.setUint16(at + 4, DNS_CLASS_IN);
    view.setUint32(at + 6, reply.ttlSeconds);
    view.setUint16(at + 10, answer.data.length);
    bytes.set(answer.data, at + 12);
    at += 12 + answer.data.length;
  }
  return bytes;
}

/** A name as length-prefixed labels (RFC 1035 §3.1). Labels must be 1 to 63 bytes of ASCII. */
export function encodeName(name: string): Uint8Array {
  const bytes: number[] = [];
  for (const label of name.split('.')) bytes.push(label.length, ...Buffer.from(label, 'latin1'));
  bytes.push(0);
  return Uint8Array.from(bytes);
}
