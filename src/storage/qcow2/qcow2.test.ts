/** What a hostile qcow2 file can name: files elsewhere, itself, tables that lie. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import * as zlib from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { pattern, randomNumbers, scratchFolder } from '../../../test/support/storage.ts';
import { AppError } from '../../contracts/errors.ts';
import { convertDisk } from '../convert.ts';
import { openSource } from '../open-source.ts';
import { zstdFrameBytes } from './compression.ts';
import { parseQcow2Header } from './header.ts';

const CLUSTER = 65_536;
const L1 = CLUSTER;
const L2 = 2 * CLUSTER;
const DATA = 3 * CLUSTER;
const CONTENT = pattern(CLUSTER, 5);
/** Fits compressed into half a cluster. */
const TEXT = Buffer.alloc(CLUSTER, 'text that repeats itself; ');

interface Made {
  readonly backing?: string;
  readonly format?: string;
  readonly size?: number;
}

/** Header, L1, L2 and one data cluster: all that reading needs. */
function qcow2({ backing, format, size = 4 * CLUSTER }: Made = {}): Buffer {
  const bytes = Buffer.alloc(4 * CLUSTER);
  bytes.write('QFI\xfb', 'latin1');
  bytes.writeUInt32BE(3, 4);
  bytes.writeUInt32BE(16, 20);
  bytes.writeBigUInt64BE(BigInt(size), 24);
  bytes.writeUInt32BE(1, 36);
  bytes.writeBigUInt64BE(BigInt(L1), 40);
  bytes.writeUInt32BE(4, 96);
  bytes.writeUInt32BE(104, 100);
  if (format !== undefined) {
    bytes.writeUInt32BE(0xe2792aca, 104);
    bytes.writeUInt32BE(format.length, 108);
    bytes.write(format, 112);
  }
  if (backing !== undefined) {
    bytes.writeBigUInt64BE(1024n, 8);
    bytes.writeUInt32BE(Buffer.byteLength(backing), 16);
    bytes.write(backing, 1024);
  }
  bytes.writeBigUInt64BE(BigInt(L2) | (1n << 63n), L1);
  bytes.writeBigUInt64BE(BigInt(DATA) | (1n << 63n), L2 + 8);
  bytes.set(CONTENT, DATA);
  return bytes;
}

function folderWith(files: Readonly<Record<string, Buffer>>): string {
  const folder = fs.realpathSync(scratchFolder());
  for (const [name, bytes] of Object.entries(files)) fs.writeFileSync(path.join(folder, name), bytes);
  return folder;
}

async function convert(bytes: Buffer): Promise<Buffer> {
  const folder = folderWith({ 'x.qcow2': bytes });
  const to = path.join(folder, 'x.raw');
  await convertDisk(path.join(folder, 'x.qcow2'), to);
  return fs.readFileSync(to);
}

describe('a qcow2 file', () => {
  it('is read', async () => {
    const raw = await convert(qcow2());
    expect(raw.length).toBe(4 * CLUSTER);
    expect(raw.subarray(CLUSTER, 2 * CLUSTER).equals(CONTENT)).toBe(true);
    expect(raw.subarray(2 * CLUSTER).every((byte) => byte === 0)).toBe(true);
  });

  it.each<[string, (bytes: Buffer) => void, string, string]>([
    ['version 1', (b) => b.writeUInt32BE(1, 4), 'unsupported', 'version'],
    ['version 4', (b) => b.writeUInt32BE(4, 4), 'unsupported', 'version'],
    ['clusters of 256 bytes', (b) => b.writeUInt32BE(8, 20), 'bad_image', 'cluster_bits'],
    ['clusters of 4 MiB', (b) => b.writeUInt32BE(22, 20), 'bad_image', 'cluster_bits'],
    ['LUKS', (b) => b.writeUInt32BE(2, 32), 'unsupported', 'crypt_method'],
    ['the mark of corruption', (b) => b.writeUInt8(2, 79), 'bad_image', 'incompatible_features'],
    ['an unknown feature', (b) => b.writeUInt8(1, 72), 'unsupported', 'incompatible_features'],
    ['no size', (b) => b.writeBigUInt64BE(0n, 24), 'bad_image', 'size'],
    ['a huge size', (b) => b.writeBigUInt64BE(2n ** 63n, 24), 'unsupported', 'size'],
    ['a size beyond its L1 table', (b) => b.writeBigUInt64BE(2n ** 40n, 24), 'bad_image', 'l1_size'],
    ['an L1 table at 0', (b) => b.writeBigUInt64BE(0n, 40), 'bad_image', 'l1_table_offset'],
    ['an L1 table elsewhere', (b) => b.writeBigUInt64BE(2n ** 62n, 40), 'bad_image', 'l1_table_offset'],
    ['a header that does not end', (b) => b.writeUInt32BE(70_000, 100), 'bad_image', 'header_length'],
    ['an L2 table elsewhere', (b) => b.writeBigUInt64BE(2n ** 55n, L1), 'bad_image', 'l1_table'],
    [
      'an L2 table between clusters',
      (b) => b.writeBigUInt64BE(BigInt(L2 + 512), L1),
      'bad_image',
      'l1_table',
    ],
    ['reserved bits in the L1 table', (b) => b.writeUInt8(0x7f, L1), 'bad_image', 'l1_table'],
    ['data elsewhere', (b) => b.writeBigUInt64BE(2n ** 55n, L2), 'bad_image', 'l2_table'],
    ['data in the header', (b) => b.writeBigUInt64BE(512n, L2), 'bad_image', 'l2_table'],
    ['reserved bits in an L2 table', (b) => b.writeUInt8(0x20, L2), 'bad_image', 'l2_table'],
    [
      'compressed data elsewhere',
      (b) => b.writeBigUInt64BE((1n << 62n) | (1n << 50n), L2),
      'bad_image',
      'l2_table',
    ],
  ])('with %s is refused', async (_what, damage, code, field) => {
    const bytes = qcow2();
    damage(bytes);
    await expect(convert(bytes)).rejects.toMatchObject({ code, field });
  });

  it('that is cut is refused or read, by where', async () => {
    const bytes = qcow2();
    for (const length of [0, 3, 7, 40, 71, 103]) {
      expect(() => parseQcow2Header(bytes.subarray(0, length), length)).toThrow(AppError);
    }
    await expect(convert(bytes.subarray(0, L1))).rejects.toMatchObject({ field: 'l1_table_offset' });
    await expect(convert(bytes.subarray(0, L1 + 8))).rejects.toMatchObject({ code: 'bad_image' });
    await expect(convert(bytes.subarray(0, DATA))).rejects.toMatchObject({ field: 'l2_table' });
    const half = await convert(bytes.subarray(0, DATA + 512));
    expect(half.subarray(CLUSTER + 512).every((byte) => byte === 0)).toBe(true);
  });

  it('cannot say the same cluster many times', async () => {
    const bytes = qcow2({ size: 8192 * CLUSTER });
    for (let index = 0; index < 8192; index++) bytes.writeBigUInt64BE(BigInt(DATA), L2 + index * 8);
    await expect(convert(bytes)).rejects.toMatchObject({ code: 'bad_image', field: 'l2_table' });
  });
});

describe('a backing file', () => {
  const below = (backing: string, format?: string): Promise<void> => {
    const folder = folderWith({
      'base.raw': Buffer.alloc(CLUSTER, 'b'),
      'self.qcow2': qcow2({ backing: 'self.qcow2' }),
    });
    fs.mkdirSync(path.join(folder, 'in'));
    fs.writeFileSync(path.join(folder, 'in', 'secret'), 'secret');
    fs.writeFileSync(path.join(folder, 'in', 'near.raw'), Buffer.alloc(CLUSTER, 'n'));
    fs.symlinkSync('../base.raw', path.join(folder, 'in', 'link'));
    fs.symlinkSync('near.raw', path.join(folder, 'in', 'near-link'));
    fs.symlinkSync('..', path.join(folder, 'in', 'up'));
    const made = backing.replace('FOLDER', folder);
    const file = path.join(folder, 'in', 'x.qcow2');
    fs.writeFileSync(file, qcow2(format === undefined ? { backing: made } : { backing: made, format }));
    return convertDisk(file, path.join(folder, 'out'));
  };

  it.each(['near.raw', './near.raw', '../in/near.raw', 'near-link', 'FOLDER/in/near.raw'])(
    '%s is opened',
    async (backing) => {
      await expect(below(backing)).resolves.toBeUndefined();
    },
  );

  it.each([
    '../base.raw',
    'link',
    'up/base.raw',
    'FOLDER/base.raw',
    '/etc/hostname',
    '../no',
    '/no/such',
    '/dev/zero',
  ])('%s is refused', async (backing) => {
    await expect(below(backing)).rejects.toMatchObject({ code: 'forbidden', field: 'backing_file' });
  });

  it.each([
    ['json:{"driver":"file","filename":"/etc/hostname"}', undefined, 'unsupported'],
    ['nbd://localhost/x', undefined, 'unsupported'],
    ['near.raw', 'vmdk', 'unsupported'],
    ['near.raw', 'qcow2', 'bad_image'],
    ['missing', undefined, 'not_found'],
    ['.', undefined, 'forbidden'],
    ['x.qcow2', undefined, 'bad_image'],
  ])('%s as %s gives %s', async (backing, format, code) => {
    await expect(below(backing, format)).rejects.toMatchObject({ code });
  });

  it('over itself in the end is refused, and so are too many', async () => {
    const folder = folderWith({
      a: qcow2({ backing: 'b', format: 'qcow2' }),
      b: qcow2({ backing: 'c', format: 'qcow2' }),
      c: qcow2({ backing: 'a', format: 'qcow2' }),
    });
    await expect(openSource(path.join(folder, 'a'))).rejects.toMatchObject({
      code: 'bad_image',
      field: 'backing_file',
    });
    for (let index = 0; index < 40; index++) {
      fs.writeFileSync(path.join(folder, `n${index}`), qcow2({ backing: `n${index + 1}` }));
    }
    await expect(openSource(path.join(folder, 'n0'))).rejects.toMatchObject({ code: 'unsupported' });
    const open = fs.readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        return [fs.readlinkSync(`/proc/self/fd/${fd}`)];
      } catch {
        return [];
      }
    });
    expect(open.filter((file) => file.startsWith(folder))).toEqual([]);
  });
});

describe('a disk over a smaller one', () => {
  it('has zeros behind its end', async () => {
    const folder = folderWith({
      base: qcow2({ size: 2 * CLUSTER }),
      top: qcow2({ backing: 'base', format: 'qcow2', size: 9000 * CLUSTER }).fill(0, L2, L2 + 16),
    });
    fs.truncateSync(path.join(folder, 'base'), DATA + CLUSTER);
    const top = fs.readFileSync(path.join(folder, 'top'));
    top.writeUInt32BE(2, 36);
    fs.writeFileSync(path.join(folder, 'top'), top);
    await convertDisk(path.join(folder, 'top'), path.join(folder, 'out'));
    const fd = fs.openSync(path.join(folder, 'out'), 'r');
    const start = Buffer.alloc(4 * CLUSTER);
    fs.readSync(fd, start, 0, start.length, 0);
    expect(fs.fstatSync(fd).size).toBe(9000 * CLUSTER);
    fs.closeSync(fd);
    expect(start.subarray(CLUSTER, 2 * CLUSTER).equals(CONTENT)).toBe(true);
    expect(start.subarray(2 * CLUSTER).every((byte) => byte === 0)).toBe(true);
  });
});

describe('any bytes', () => {
  it('give an error or a disk, soon and in little memory', async () => {
    const random = randomNumbers(20_261_123);
    // Smaller than the disk over it.
    const folder = folderWith({ base: qcow2({ size: 2 * CLUSTER }) });
    const file = path.join(folder, 'x');
    const packed = { 0: zlib.deflateRawSync(TEXT), 1: zlib.zstdCompressSync(TEXT) };
    const rssBefore = process.memoryUsage().rss;
    let refused = 0;
    let slowest = 0;
    for (let round = 0; round < 2000; round++) {
      const bytes = qcow2(round % 4 === 0 ? { backing: 'base', format: 'qcow2' } : {});
      if (round % 3 === 0) addCompressed(bytes, packed[round % 2 === 0 ? 0 : 1], round % 2);
      for (let change = 0; change <= random(4); change++) {
        const area = [0, 0, 0, L1, L2][random(5)]!;
        const at = area + random(area === 0 ? 128 : 32);
        bytes[at] = [0, 1, 0x80, 0xff, random(256)][random(5)]!;
      }
      fs.writeFileSync(file, random(8) === 0 ? bytes.subarray(0, random(bytes.length)) : bytes);
      const begun = performance.now();
      try {
        await scan(file);
      } catch (error) {
        if (!(error instanceof AppError)) throw error;
        refused++;
      }
      slowest = Math.max(slowest, performance.now() - begun);
    }
    expect(refused).toBeGreaterThan(800);
    expect(refused).toBeLessThan(2000);
    expect(slowest).toBeLessThan(2000);
    expect(process.memoryUsage().rss - rssBefore).toBeLessThan(300 << 20);
  }, 180_000);

  /** The last cluster of the disk, behind the data and as compressed as it gets. */
  function addCompressed(bytes: Buffer, packed: Buffer, type: number): void {
    const at = DATA + CLUSTER / 2;
    packed.copy(bytes, at);
    bytes.writeBigUInt64BE((1n << 62n) | (63n << 54n) | BigInt(at), L2 + 24);
    if (type === 0) return;
    bytes.writeBigUInt64BE(8n, 72);
    bytes.writeUInt32BE(112, 100);
    bytes.writeUInt8(1, 104);
  }

  /** Reads all that the file says it has; that cannot be much more than the file. */
  async function scan(file: string): Promise<void> {
    const source = await openSource(file, { format: 'qcow2' });
    try {
      const buffer = new Uint8Array(2 << 20);
      for (let at = 0; ; ) {
        const next = await source.nextData(at);
        if (next === undefined) return;
        expect(next.end).toBeGreaterThan(next.start);
        expect(next.start).toBeGreaterThanOrEqual(at);
        await source.read(next.start, buffer.subarray(0, Math.min(next.end - next.start, buffer.length)));
        at = next.end;
      }
    } finally {
      await source.close();
    }
  }
});

describe('the length of a zstd frame', () => {
  it('is found, whatever follows', () => {
    for (const bytes of [
      Buffer.alloc(65_536, 3),
      pattern(70_000, 1),
      Buffer.alloc(300_000, 'text '),
      Buffer.alloc(1),
    ]) {
      for (const checksum of [0, 1]) {
        const frame = zlib.zstdCompressSync(bytes, {
          params: { [zlib.constants.ZSTD_c_checksumFlag]: checksum },
        });
        expect(zstdFrameBytes(Buffer.concat([frame, frame, pattern(99, 2)]))).toBe(frame.length);
        expect(() => zstdFrameBytes(frame.subarray(0, frame.length - 1))).toThrow(AppError);
      }
    }
  });
});
