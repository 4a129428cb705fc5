import { describe, expect, test } from 'vitest';
import { FrameBuffer } from '../ring/frame-buffer.ts';
import { tcp4Frame, tcp6Frame } from '../testing/tcp-frame.ts';
import { checksumWord, fold, GSO, segmentationWord, sumOf } from './offload.ts';
import { Segmenter } from './segmenter.ts';

function segmentsOf(frame: Uint8Array, checksum: number, segmentation: number): Uint8Array[] | undefined {
  const source = new FrameBuffer();
  source.set(frame);
  source.setOffload(checksum, segmentation);
  const segmenter = new Segmenter();
  if (!segmenter.begin(source)) return undefined;
  const segments: Uint8Array[] = [];
  while (segmenter.next()) {
    const { bytes, offset, length } = segmenter.frame;
    segments.push(bytes.slice(offset, offset + length));
  }
  return segments;
}

/** The sum over a correct TCP segment and its pseudo-header is 0xffff. */
function tcpSum(frame: Uint8Array, ip: number, tcp: number): number {
  const addresses = tcp - ip === 40 ? sumOf(frame, ip + 8, 32) : sumOf(frame, ip + 12, 8);
  return fold(addresses + 6 + (frame.length - tcp) + sumOf(frame, tcp, frame.length - tcp));
}

describe('a large TCP segment', () => {
  test('over IPv4 becomes segments with right lengths, numbers, flags and checksums', () => {
    const whole = tcp4Frame(3001);
    const segments = segmentsOf(whole, checksumWord(34, 16), segmentationWord(GSO.TCP4, 1000))!;
    expect(segments.map(({ length }) => length)).toEqual([1054, 1054, 1054, 55]);
    const payload = segments.flatMap((segment) => [...segment.subarray(54)]);
    expect(Buffer.compare(Uint8Array.from(payload), whole.subarray(54))).toBe(0);
    for (const [index, segment] of segments.entries()) {
      const view = new DataView(segment.buffer);
      expect(view.getUint16(16)).toBe(segment.length - 14);
      expect(view.getUint16(18)).toBe((0xffff + index) & 0xffff);
      expect(fold(sumOf(segment, 14, 20))).toBe(0xffff);
      expect(view.getUint32(38)).toBe((0xffff_fff0 + 1000 * index) >>> 0);
      expect(tcpSum(segment, 14, 34)).toBe(0xffff);
    }
    // CWR on the first alone, PSH and FIN on the last alone.
    expect(segments.map((segment) => segment[47])).toEqual([0x90, 0x10, 0x10, 0x19]);
  });

  test('over IPv6, and with a VLAN tag', () => {
    const whole = tcp6Frame(2500);
    const segments = segmentsOf(whole, checksumWord(54, 16), segmentationWord(GSO.TCP6 | GSO.ECN, 1440))!;
    expect(segments.map(({ length }) => length)).toEqual([74 + 1440, 74 + 1060]);
    for (const segment of segments) {
      expect(new DataView(segment.buffer).getUint16(18)).toBe(segment.length - 54);
      expect(tcpSum(segment, 14, 54)).toBe(0xffff);
    }
    const tagged = Uint8Array.from([...whole.subarray(0, 12), 0x81, 0, 0, 5, ...whole.subarray(12)]);
    const inVlan = segmentsOf(tagged, checksumWord(58, 16), segmentationWord(GSO.TCP6, 1440))!;
    expect(inVlan.map(({ length }) => length)).toEqual([78 + 1440, 78 + 1060]);
    for (const segment of inVlan) expect(tcpSum(segment, 18, 58)).toBe(0xffff);
  });

  test.each([
    ['of another family', tcp6Frame(2000), GSO.TCP4, 1000],
    ['of no known kind', tcp4Frame(2000), 3, 1000],
    ['of tiny segments', tcp4Frame(2000), GSO.TCP4, 8],
    ['without payload', tcp4Frame(0), GSO.TCP4, 1000],
    ['that is cut off', tcp4Frame(0).subarray(0, 40), GSO.TCP4, 1000],
    ['with a header that runs out of it', tcp4Frame(2).fill(0xf0, 46, 47), GSO.TCP4, 1000],
  ])('%s is refused', (_name, frame, kind, bytes) => {
    expect(segmentsOf(frame, checksumWord(34, 16), segmentationWord(kind, bytes))).toBeUndefined();
  });
});

describe('a checksum alone', () => {
  test('is filled in', () => {
    const segments = segmentsOf(tcp4Frame(101), checksumWord(34, 16), 0)!;
    expect(segments).toHaveLength(1);
    expect(tcpSum(segments[0]!, 14, 34)).toBe(0xffff);
  });

  test('outside the frame is refused', () => {
    expect(segmentsOf(tcp4Frame(0), checksumWord(50, 16), 0)).toBeUndefined();
  });
});
