/** The .xz container (xz-file-format 1.1.0) with LZMA2 and the x86 branch filter, as kernel images use it. */
import { unpackLzma2 } from './lzma2.ts';

const HEADER_BYTES = 12;
const FILTER_X86 = 0x04;
const FILTER_LZMA2 = 0x21;
/** Bytes of the check by its number: none, CRC32, CRC64 and SHA-256 are the ones in use. */
const CHECK_BYTES = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64] as const;

const align4 = (value: number): number => (value + 3) & ~3;

/** Unpacks the first stream; throws RangeError on damaged data or more than `maxBytes` of output. */
export function unpackXz(packed: Uint8Array, maxBytes: number): Uint8Array {
  const checkBytes = CHECK_BYTES[packed[7]! & 15]!;
  const blocks: Uint8Array[] = [];
  let at = HEADER_BYTES;
  let total = 0;
  // A zero in the place of a block header's size starts the index.
  while (packed[at] !== 0) {
    const header = parseBlockHeader(packed, at);
    const { out, end } = unpackLzma2(packed, header.end, maxBytes - total);
    if (header.isX86) undoX86Filter(out);
    blocks.push(out);
    total += out.length;
    at = align4(end) + checkBytes;
  }
  if (blocks.length === 1) return blocks[0]!;
  const whole = new Uint8Array(total);
  let offset = 0;
  for (const block of blocks) {
    whole.set(block, offset);
    offset += block.length;
  }
  return whole;
}

function parseBlockHeader(packed: Uint8Array, at: number): { end: number; isX86: boolean } {
  if (at + 8 > packed.length) throw new RangeError('xz data ends before its index');
  const end = at + (packed[at]! + 1) * 4;
  const flags = packed[at + 1]!;
  let position = at + 2;
  const number = (): number => {
    let value = 0;
    for (let shift = 1; position < end; shift *= 128) {
      const byte = packed[position++]!;
      value += (byte & 0x7f) * shift;
      if ((byte & 0x80) === 0) return value;
    }
    throw new RangeError('xz block header is damaged');
  };
  if ((flags & 0x40) !== 0) number();
  if ((flags & 0x80) !== 0) number();
  let isX86 = false;
  for (let filter = 0; filter <= (flags & 3); filter++) {
    const id = number();
    const propertyBytes = number();
    position += propertyBytes;
    if (id === FILTER_X86) isX86 = true;
    else if (id !== FILTER_LZMA2) throw new RangeError(`xz filter ${id} is not supported`);
  }
  return { end, isX86 };
}

const MASK_TO_ALLOWED = [1, 1, 1, 0, 1, 0, 0, 0] as const;
const MASK_TO_BIT = [0, 1, 2, 2, 3, 3, 3, 3] as const;
const isSignByte = (byte: number): boolean => byte === 0 || byte === 0xff;

/** Turns the absolute targets of CALL and JMP back into relative ones (the format's "BCJ x86" filter). */
function undoX86Filter(bytes: Uint8Array): void {
  let previousMask = 0;
  let previousAt = -1;
  for (let i = 0; i + 5 <= bytes.length; i++) {
    if ((bytes[i]! & 0xfe) !== 0xe8) continue;
    const gap = i - previousAt;
    if (gap > 3) {
      previousMask = 0;
    } else {
      previousMask = (previousMask << (gap - 1)) & 7;
      if (previousMask !== 0) {
        const byte = bytes[i + 4 - MASK_TO_BIT[previousMask]!]!;
        if (MASK_TO_ALLOWED[previousMask] === 0 || isSignByte(byte)) {
          previousAt = i;
          previousMask = (previousMask << 1) | 1;
          continue;
        }
      }
    }
    previousAt = i;
    if (!isSignByte(bytes[i + 4]!)) {
      previousMask = (previousMask << 1) | 1;
      continue;
    }
    const target = relative(bytes, i, previousMask);
    bytes[i + 1] = target;
    bytes[i + 2] = target >>> 8;
    bytes[i + 3] = target >>> 16;
    bytes[i + 4] = (target >>> 24) & 1 ? 0xff : 0;
    i += 4;
    // The filter does not look for an opcode within the operand that it changed.
    previousMask = 0;
    previousAt = i;
  }
}

function relative(bytes: Uint8Array, at: number, mask: number): number {
  let source = bytes[at + 1]! | (bytes[at + 2]! << 8) | (bytes[at + 3]! << 16) | (bytes[at + 4]! << 24);
  for (;;) {
    const target = (source - (at + 5)) | 0;
    if (mask === 0) return target;
    const shift = MASK_TO_BIT[mask]! * 8;
    if (!isSignByte((target >>> (24 - shift)) & 0xff)) return target;
    source = target ^ ((1 << (32 - shift)) - 1);
  }
}
