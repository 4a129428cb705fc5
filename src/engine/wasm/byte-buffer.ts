/** A growing byte buffer with WebAssembly's integer encodings (LEB128). */
export class ByteBuffer {
  #bytes = new Uint8Array(1024);
  length = 0;

  #room(count: number): void {
    if (this.length + count <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.length + count));
    grown.set(this.#bytes.subarray(0, this.length));
    this.#bytes = grown;
  }

  u8(value: number): void {
    if (this.length === this.#bytes.length) this.#room(1);
    this.#bytes[this.length++] = value;
  }

  append(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** Unsigned LEB128 of a number below 2^32. */
  u32(value: number): void {
    let rest = value >>> 0;
    while (rest >= 0x80) {
      this.u8((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.u8(rest);
  }

  /** Signed LEB128 of a 32-bit number. */
  s32(value: number): void {
    let rest = value | 0;
    for (;;) {
      const low = rest & 0x7f;
      rest >>= 7;
      if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) {
        this.u8(low);
        return;
      }
      this.u8(low | 0x80);
    }
  }

  /** The same of a safe integer. */
  #safe(value: number): void {
    let rest = value;
    while (rest !== (rest | 0)) {
      const high = Math.floor(rest / 128);
      this.u8((rest - high * 128) | 0x80);
      rest = high;
    }
    this.s32(rest);
  }

  /** Signed LEB128 of a 64-bit number: a bigint, or a safe integer, which costs less. */
  s64(value: bigint | number): void {
    if (typeof value === 'number') {
      this.#safe(value);
      return;
    }
    const small = Number(value);
    if (small === (small | 0)) {
      this.s32(small);
      return;
    }
    let rest = BigInt.asIntN(64, value);
    for (;;) {
      const low = Number(rest & 0x7fn);
      rest >>= 7n;
      if ((rest === 0n && (low & 0x40) === 0) || (rest === -1n && (low & 0x40) !== 0)) {
        this.u8(low);
        return;
      }
      this.u8(low | 0x80);
    }
  }

  /** A name of ASCII characters. */
  name(text: string): void {
    this.u32(text.length);
    for (let n = 0; n < text.length; n++) this.u8(text.charCodeAt(n));
  }

  /** The bytes so far; valid until the next write. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }
}
