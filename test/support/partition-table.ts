/** Disks with partition tables, made by hand. */
import * as fs from 'node:fs';
import * as zlib from 'node:zlib';

const SECTOR = 512;
const FIRST = 2048;
const LINUX = '0fc63daf-8483-4772-8e79-3d69d8477de4';

/** A GUID as UEFI stores it: the first three fields little-endian. */
function guid(text: string): Buffer {
  const [a = '', b = '', c = '', d = '', e = ''] = text.split('-');
  const swap = (hex: string): Buffer => Buffer.from(hex, 'hex').reverse();
  return Buffer.concat([swap(a), swap(b), swap(c), Buffer.from(d + e, 'hex')]);
}

/** Writes a disk with `partition` in it from 1 MiB on, as partition `number` of a GPT or (1 to 4) an MBR. */
export function writePartitioned(
  to: string,
  partition: string,
  { table, number }: { readonly table: 'gpt' | 'mbr'; readonly number: number },
): void {
  const sizeBytes = fs.statSync(partition).size;
  const sectors = Math.ceil(sizeBytes / SECTOR);
  const total = FIRST + sectors + 2048;
  const start = Buffer.alloc(34 * SECTOR);
  start.writeUInt16BE(0x55aa, 510);
  const entry = start.subarray(446 + (table === 'mbr' ? number - 1 : 0) * 16);
  entry[4] = table === 'mbr' ? 0x83 : 0xee;
  entry.writeUInt32LE(table === 'mbr' ? FIRST : 1, 8);
  entry.writeUInt32LE(table === 'mbr' ? sectors : total - 1, 12);
  if (table === 'gpt') writeGpt(start, number, sectors, total);
  const fd = fs.openSync(to, 'w');
  try {
    fs.writeSync(fd, start, 0, start.length, 0);
    const piece = Buffer.alloc(1 << 20);
    const from = fs.openSync(partition, 'r');
    for (let at = 0; at < sizeBytes; ) {
      const count = fs.readSync(from, piece, 0, piece.length, at);
      if (!piece.subarray(0, count).every((byte) => byte === 0)) {
        fs.writeSync(fd, piece, 0, count, FIRST * SECTOR + at);
      }
      at += count;
    }
    fs.closeSync(from);
    fs.ftruncateSync(fd, total * SECTOR);
  } finally {
    fs.closeSync(fd);
  }
}

function writeGpt(start: Buffer, number: number, sectors: number, total: number): void {
  const entries = start.subarray(2 * SECTOR);
  const entry = entries.subarray((number - 1) * 128);
  guid(LINUX).copy(entry, 0);
  guid('11111111-2222-3333-4444-555555555555').copy(entry, 16);
  entry.writeBigUInt64LE(BigInt(FIRST), 32);
  entry.writeBigUInt64LE(BigInt(FIRST + sectors - 1), 40);
  const header = start.subarray(SECTOR, SECTOR + 92);
  header.write('EFI PART', 'latin1');
  header.writeUInt32LE(0x10000, 8);
  header.writeUInt32LE(92, 12);
  header.writeBigUInt64LE(1n, 24);
  header.writeBigUInt64LE(BigInt(total - 1), 32);
  header.writeBigUInt64LE(34n, 40);
  header.writeBigUInt64LE(BigInt(total - 34), 48);
  guid('aaaaaaaa-2222-3333-4444-555555555555').copy(header, 56);
  header.writeBigUInt64LE(2n, 72);
  header.writeUInt32LE(128, 80);
  header.writeUInt32LE(128, 84);
  header.writeUInt32LE(zlib.crc32(entries.subarray(0, 128 * 128)), 88);
  header.writeUInt32LE(zlib.crc32(header), 16);
}
