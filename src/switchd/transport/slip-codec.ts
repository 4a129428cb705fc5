/** SLIP (RFC 1055): IP packets in a stream of bytes. */
const END = 0xc0;
const ESC = 0xdb;
const ESC_END = 0xdc;
const ESC_ESC = 0xdd;

/** With an END on both sides, as UML and the host's kernel send it. */
export function encodeSlip(packet: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(2 * packet.length + 2);
  let at = 0;
  bytes[at++] = END;
  for (const byte of packet) {
    if (byte !== END && byte !== ESC) bytes[at++] = byte;
    else {
      bytes[at++] = ESC;
      bytes[at++] = byte === END ? ESC_END : ESC_ESC;
    }
  }
  bytes[at++] = END;
  return bytes.subarray(0, at);
}

export class SlipDecoder {
  readonly #packet: Uint8Array;
  #length = 0;
  #escaped = false;
  #tooLong = false;

  /** Longer packets are dropped. */
  constructor(bytesMax: number) {
    this.#packet = new Uint8Array(bytesMax);
  }

  /** Takes bytes as they come; gives the packets that they complete, which are the caller's. */
  decode(bytes: Uint8Array): Uint8Array[] {
    const packets: Uint8Array[] = [];
    for (const byte of bytes) {
      if (byte === END) {
        if (this.#length > 0 && !this.#tooLong) packets.push(this.#packet.slice(0, this.#length));
        this.#length = 0;
        this.#tooLong = false;
        this.#escaped = false;
      } else if (byte === ESC && !this.#escaped) this.#escaped = true;
      else this.#put(this.#unescaped(byte));
    }
    return packets;
  }

  /** What stands behind an ESC and is none of both stands for itself, as in the RFC's own code. */
  #unescaped(byte: number): number {
    const wasEscaped = this.#escaped;
    this.#escaped = false;
    if (!wasEscaped) return byte;
    return byte === ESC_END ? END : byte === ESC_ESC ? ESC : byte;
  }

  #put(byte: number): void {
    if (this.#length === this.#packet.length) this.#tooLong = true;
    else this.#packet[this.#length++] = byte;
  }
}
