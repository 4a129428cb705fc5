/** Headers of COW files that nobody writes any more, made by hand. */

export const SIZE = 1 << 20;
/** Modification time of backing files: 2020-02-02 02:02:02 UTC. */
export const MTIME = 1580608922;

export interface OldHeader {
  readonly header: Buffer;
  readonly bitmapOffset: number;
  readonly dataOffset: number;
}

export function versionOne(backing: string): OldHeader {
  const header = Buffer.alloc(280);
  header.writeUInt32LE(0x4f4f4f4d, 0);
  header.writeUInt32LE(1, 4);
  header.write(backing, 8);
  header.writeUInt32LE(MTIME, 264);
  header.writeBigUInt64LE(BigInt(SIZE), 268);
  header.writeUInt32LE(512, 276);
  return { header, bitmapOffset: 280, dataOffset: 1024 };
}

export function versionTwo(backing: string): OldHeader {
  const header = Buffer.alloc(4120);
  header.write('OOOM');
  header.writeUInt32BE(2, 4);
  header.write(backing, 8);
  header.writeUInt32BE(MTIME, 4104);
  header.writeBigUInt64BE(BigInt(SIZE), 4108);
  header.writeUInt32BE(512, 4116);
  return { header, bitmapOffset: 4120, dataOffset: 4608 };
}

export function brokenVersionThree(backing: string): OldHeader {
  const header = Buffer.alloc(4136);
  header.write('OOOM');
  header.writeUInt32BE(3, 4);
  header.writeUInt32BE(MTIME, 8);
  header.writeBigUInt64BE(BigInt(SIZE), 16);
  header.writeUInt32BE(512, 24);
  header.writeUInt32BE(4096, 28);
  header.write(backing, 36);
  return { header, bitmapOffset: 8192, dataOffset: 12288 };
}
