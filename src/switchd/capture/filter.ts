/**
 * Filters of frames: the part of pcap-filter(7) that names protocols, addresses, ports, VLANs and sizes.
 *
 *   expression   not, and, or (also !, &&, ||), parentheses
 *   arp ip ip6 icmp icmp6 igmp tcp udp sctp broadcast multicast
 *   [ether] [src|dst] host MAC · [src|dst] host ADDRESS · [src|dst] net ADDRESS/LENGTH
 *   [tcp|udp|sctp] [src|dst] port NUMBER · portrange FIRST-LAST · vlan [ID] · ether proto NUMBER · less BYTES · greater BYTES
 */
import { AppError } from '../../contracts/errors.ts';
import { parseIp, parseMac } from '../wire/address.ts';
import { isInPrefix, parseIp6 } from '../wire/address6.ts';
import { FrameView, PROTOCOL } from './frame-view.ts';

type Test = (view: FrameView) => boolean;
type Side = 'src' | 'dst' | undefined;

const NESTING_MAX = 32;
const EXPRESSION_MAX = 1000;

/** Whether a frame is wanted. Throws AppError `invalid_input`. An empty expression takes all frames. */
export function compileFilter(expression: string): (frame: Uint8Array) => boolean {
  if (expression.length > EXPRESSION_MAX) throw invalid(`is longer than ${EXPRESSION_MAX} characters`);
  const tokens = expression.match(/\(|\)|!|&&|\|\||[^\s()!&|]+/g) ?? [];
  if (tokens.length === 0) return () => true;
  const test = new Parser(tokens).parse();
  const view = new FrameView();
  return (frame) => {
    view.load(frame);
    return test(view);
  };
}

class Parser {
  readonly #tokens: readonly string[];
  #at = 0;
  #depth = 0;

  constructor(tokens: readonly string[]) {
    this.#tokens = tokens;
  }

  parse(): Test {
    const test = this.#or();
    if (this.#at < this.#tokens.length) throw invalid(`has an unexpected "${this.#peek()}"`);
    return test;
  }

  #or(): Test {
    let test = this.#and();
    while (this.#take('or', '||')) {
      const [left, right] = [test, this.#and()];
      test = (view) => left(view) || right(view);
    }
    return test;
  }

  #and(): Test {
    let test = this.#not();
    while (this.#take('and', '&&')) {
      const [left, right] = [test, this.#not()];
      test = (view) => left(view) && right(view);
    }
    return test;
  }

  #not(): Test {
    if (++this.#depth > NESTING_MAX) throw invalid('is nested too deeply');
    const test = this.#term();
    this.#depth--;
    return test;
  }

  #term(): Test {
    if (this.#take('not', '!')) {
      const test = this.#not();
      return (view) => !test(view);
    }
    if (!this.#take('(')) return this.#primitive();
    const test = this.#or();
    if (!this.#take(')')) throw invalid('lacks a ")"');
    return test;
  }

  #primitive(): Test {
    const word = this.#next();
    switch (word) {
      case 'broadcast':
        return (view) => view.frame.subarray(0, 6).every((byte) => byte === 0xff);
      case 'multicast':
        return (view) => (view.frame[0]! & 1) !== 0;
      case 'less':
        return sizeTest(this.#number(0, 0xffff_ffff), (length, limit) => length <= limit);
      case 'greater':
        return sizeTest(this.#number(0, 0xffff_ffff), (length, limit) => length >= limit);
      case 'vlan':
        return this.#vlan();
      case 'ether':
        return this.#ether();
      case 'src':
      case 'dst':
        return this.#qualified(word, undefined);
      default:
        return this.#protocol(word);
    }
  }

  /** `tcp`, or `tcp src port 80`. */
  #protocol(word: string): Test {
    const protocol = protocolTest(word);
    if (protocol === undefined) {
      this.#at--;
      return this.#qualified(undefined, undefined);
    }
    const side = this.#take('src') ? 'src' : this.#take('dst') ? 'dst' : undefined;
    const following = this.#peek();
    const isQualifier = following !== undefined && ['host', 'net', 'port', 'portrange'].includes(following);
    if (side === undefined && !isQualifier) return protocol;
    return this.#qualified(side, protocol);
  }

  #qualified(side: Side, protocol: Test | undefined): Test {
    const test = this.#place(side);
    return protocol === undefined ? test : (view) => protocol(view) && test(view);
  }

  #place(side: Side): Test {
    const word = this.#next();
    switch (word) {
      case 'host':
        return addressTest(side, this.#next());
      case 'net':
        return netTest(side, this.#next());
      case 'port': {
        const port = this.#number(0, 0xffff);
        return portTest(side, port, port);
      }
      case 'portrange': {
        const [first, last, ...rest] = this.#next().split('-').map(Number);
        if (
          rest.length > 0 ||
          first === undefined ||
          !(last !== undefined && first <= last && last <= 0xffff)
        ) {
          throw invalid('has a port range that is not FIRST-LAST');
        }
        return portTest(side, first, last);
      }
      default:
        throw invalid(`has an unknown word "${word}"`);
    }
  }

  #ether(): Test {
    if (this.#take('broadcast')) return (view) => view.frame.subarray(0, 6).every((byte) => byte === 0xff);
    if (this.#take('multicast')) return (view) => (view.frame[0]! & 1) !== 0;
    if (this.#take('proto')) {
      const type = this.#number(0, 0xffff);
      return (view) => view.etherType === type;
    }
    const side = this.#take('src') ? 'src' : this.#take('dst') ? 'dst' : undefined;
    this.#take('host');
    return macTest(side, this.#next());
  }

  #vlan(): Test {
    const following = this.#peek();
    if (following === undefined || !/^\d+$/.test(following)) return (view) => view.vlans.length > 0;
    const id = this.#number(0, 4095);
    return (view) => view.vlans.includes(id);
  }

  #number(min: number, max: number): number {
    const word = this.#next();
    const value = /^(0x[0-9a-f]+|\d+)$/i.test(word) ? Number(word) : Number.NaN;
    if (!(value >= min && value <= max)) throw invalid(`has "${word}" where a number up to ${max} belongs`);
    return value;
  }

  #peek(): string | undefined {
    return this.#tokens[this.#at];
  }

  #next(): string {
    const word = this.#tokens[this.#at++];
    if (word === undefined) throw invalid('ends too early');
    return word;
  }

  #take(...words: readonly string[]): boolean {
    const word = this.#peek();
    if (word === undefined || !words.includes(word)) return false;
    this.#at++;
    return true;
  }
}

function protocolTest(word: string): Test | undefined {
  switch (word) {
    case 'ip':
      return (view) => view.isIp;
    case 'ip6':
      return (view) => view.isIp6;
    case 'arp':
      return (view) => view.isArp;
    case 'icmp':
    case 'icmp6':
    case 'igmp':
    case 'tcp':
    case 'udp':
    case 'sctp': {
      const protocol = PROTOCOL[word];
      return (view) => view.protocol === protocol;
    }
    default:
      return undefined;
  }
}

function either(side: Side, isSource: Test, isDestination: Test): Test {
  if (side === 'src') return isSource;
  if (side === 'dst') return isDestination;
  return (view) => isSource(view) || isDestination(view);
}

function addressTest(side: Side, text: string): Test {
  const bytes = addressBytes(text);
  if (bytes === undefined) return macTest(side, text);
  const is = (address: Uint8Array): boolean => sameBytes(address, bytes);
  return either(
    side,
    (view) => is(view.source),
    (view) => is(view.destination),
  );
}

function netTest(side: Side, text: string): Test {
  const [addressText = '', lengthText = ''] = text.split('/');
  const address = addressBytes(addressText);
  const length = Number(lengthText);
  if (address === undefined || !/^\d+$/.test(lengthText) || length > 8 * address.length) {
    throw invalid(`has "${text}" where ADDRESS/LENGTH belongs`);
  }
  const prefix = { address, length };
  const is = (other: Uint8Array): boolean => other.length === address.length && isInPrefix(other, 0, prefix);
  return either(
    side,
    (view) => is(view.source),
    (view) => is(view.destination),
  );
}

function macTest(side: Side, text: string): Test {
  const mac = parseMac(text);
  if (mac === undefined) throw invalid(`has "${text}" where an address belongs`);
  return either(
    side,
    (view) => sameBytes(view.frame.subarray(6, 12), mac),
    (view) => sameBytes(view.frame.subarray(0, 6), mac),
  );
}

function portTest(side: Side, first: number, last: number): Test {
  const is = (port: number): boolean => port >= first && port <= last;
  return either(
    side,
    (view) => is(view.sourcePort),
    (view) => is(view.destinationPort),
  );
}

function sizeTest(limit: number, is: (length: number, limit: number) => boolean): Test {
  return (view) => is(view.frame.length, limit);
}

function addressBytes(text: string): Uint8Array | undefined {
  const ip = parseIp(text);
  if (ip === undefined) return parseIp6(text);
  return Uint8Array.of(ip >>> 24, (ip >>> 16) & 255, (ip >>> 8) & 255, ip & 255);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

function invalid(what: string): AppError {
  return new AppError('invalid_input', `the filter ${what}`, {
    field: 'filter',
    remedy: 'write it as for tcpdump, such as: tcp port 80 and not host 10.0.77.1',
  });
}
