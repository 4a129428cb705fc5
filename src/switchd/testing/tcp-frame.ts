/** Large TCP segments for tests, as a guest with segmentation offload sends them. */
import { fold, sumOf } from '../offload/offload.ts';

/** From 10.0.0.1:1000 to 10.0.0.2:2000, sequence number 0xffff_fff0, flags ACK, PSH and FIN; the payload counts up. */
export function tcp4Frame(payloadBytes: number): Uint8Array {
  const ip = Uint8Array.from([
    0x45,
    0,
    (40 + payloadBytes) >> 8,
    (40 + payloadBytes) & 255,
    0xff,
    0xff,
    0x40,
    0,
    64,
    6,
    0,
    0,
    10,
    0,
    0,
    1,
    10,
    0,
    0,
    2,
  ]);
  return Uint8Array.from([...ethernet(0x0800), ...ip, ...tcp(sumOf(ip, 12, 8), payloadBytes)]);
}

export function tcp6Frame(payloadBytes: number): Uint8Array {
  const bytes = 20 + payloadBytes;
  const address = (last: number): number[] => [0xfd, ...new Array<number>(14).fill(0), last];
  const ip = Uint8Array.from([0x60, 0, 0, 0, bytes >> 8, bytes & 255, 6, 64, ...address(1), ...address(2)]);
  return Uint8Array.from([...ethernet(0x86dd), ...ip, ...tcp(sumOf(ip, 8, 32), payloadBytes)]);
}

function ethernet(type: number): number[] {
  return [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, type >> 8, type & 255];
}

function tcp(addresses: number, payloadBytes: number): Uint8Array {
  const bytes = new Uint8Array(20 + payloadBytes);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 1000);
  view.setUint16(2, 2000);
  view.setUint32(4, 0xffff_fff0);
  view.setUint32(8, 77);
  view.setUint8(12, 5 << 4);
  view.setUint8(13, 0x80 | 0x10 | 0x08 | 0x01);
  view.setUint16(14, 512);
  view.setUint16(16, fold(addresses + 6 + bytes.length));
  for (let i = 0; i < payloadBytes; i++) bytes[20 + i] = i & 0xff;
  return bytes;
}
