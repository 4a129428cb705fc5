/** The two levels of tables that say where the clusters of a qcow2 file's disk are. */
import { AppError } from '../../contracts/errors.ts';
import type { HostFile } from '../host-file.ts';
import type { Qcow2Header } from './header.ts';

/** Where one cluster of the disk is. `absent`: in the backing file, or zeros without one. */
export type Cluster =
  | { readonly kind: 'absent' | 'zero' }
  | { readonly kind: 'data'; readonly offset: number }
  | { readonly kind: 'compressed'; readonly offset: number; readonly length: number };

const ABSENT: Cluster = { kind: 'absent' };
const ZERO: Cluster = { kind: 'zero' };

/** No raw deflate stream, and no zstd frame, that makes a cluster is shorter. */
const DEFLATE_RATIO_MAX = 1032;
const ZSTD_FRAME_BYTES_MIN = 10;

function damaged(message: string, field: string): AppError {
  return new AppError('bad_image', `the qcow2 file is damaged: ${message}`, {
    field,
    remedy: 'check the file with `qemu-img check`, or get it again',
  });
}

/** The offset in a table entry: bits 9 to 55. Above 2^53 it is inexact, and beyond any file's end. */
const offsetOf = (high: number, low: number): number =>
  (high & 0x00ff_ffff) * 2 ** 32 + ((low & 0xffff_fe00) >>> 0);

/**
 * Looks clusters up, quickest in ascending order: one L2 table is kept. All tables together may name no more clusters than
 * the file has: otherwise a small file could make a disk of any size, cluster for cluster the same.
 */
export class ClusterMap {
  readonly clusters: number;
  readonly #header: Qcow2Header;
  readonly #file: HostFile;
  readonly #fileBytes: number;
  readonly #perTable: number;
  #l1 = Buffer.alloc(0);
  #l2: { readonly index: number; readonly bytes: Buffer } | undefined;
  /** L2 tables below this have been counted. */
  #countedTables = 0;
  #dataClusters = 0;
  #compressedClusters = 0;

  constructor(header: Qcow2Header, file: HostFile, fileBytes: number) {
    this.#header = header;
    this.#file = file;
    this.#fileBytes = fileBytes;
    this.#perTable = header.clusterBytes / 8;
    this.clusters = Math.ceil(header.sizeBytes / header.clusterBytes);
  }

  /** Reads the L1 table. AppError `bad_image`. */
  async open(): Promise<void> {
    this.#l1 = Buffer.alloc(this.#header.l1Entries * 8);
    await this.#file.read(this.#header.l1Offset, [this.#l1], true);
    let tables = 0;
    for (let index = 0; index < this.#header.l1Entries; index++) {
      if (this.#tableOffset(index) !== 0) tables++;
    }
    if (tables * this.#header.clusterBytes > this.#fileBytes) {
      throw damaged(`${tables} L2 tables do not fit into ${this.#fileBytes} bytes`, 'l1_table');
    }
  }

  /** AppError `bad_image`. */
  async at(index: number): Promise<Cluster> {
    const table = Math.floor(index / this.#perTable);
    const offset = this.#tableOffset(table);
    if (offset === 0) return ABSENT;
    const l2 = this.#l2?.index === table ? this.#l2.bytes : await this.#readTable(table, offset);
    return this.#decode(l2, (index % this.#perTable) * 8);
  }

  /** The first cluster behind the L2 table that cluster `index` is in, if that table is not there; else `index` + 1. */
  skipFrom(index: number): number {
    const table = Math.floor(index / this.#perTable);
    const end = this.#tableOffset(table) === 0 ? (table + 1) * this.#perTable : index + 1;
    return Math.min(end, this.clusters);
  }

  #tableOffset(index: number): number {
    const high = this.#l1.readUInt32BE(index * 8);
    const low = this.#l1.readUInt32BE(index * 8 + 4);
    if ((high & 0x7f00_0000) !== 0 || (low & 0x1ff) !== 0) {
      throw damaged(`L1 entry ${index} has reserved bits`, 'l1_table');
    }
    const offset = offsetOf(high, low);
    if (offset !== 0) this.#checkOffset(offset, `L1 entry ${index}`, 'l1_table');
    return offset;
  }

  #checkOffset(offset: number, what: string, field: string): void {
    const { clusterBytes } = this.#header;
    if (offset % clusterBytes === 0 && offset >= clusterBytes && offset < this.#fileBytes) return;
    throw damaged(`${what} leads to byte ${offset} of ${this.#fileBytes}`, field);
  }

  async #readTable(index: number, offset: number): Promise<Buffer> {
    const bytes = Buffer.alloc(this.#header.clusterBytes);
    await this.#file.read(offset, [bytes], true);
    this.#l2 = { index, bytes };
    if (index >= this.#countedTables) {
      this.#countedTables = index + 1;
      this.#count(bytes);
    }
    return bytes;
  }

  #count(l2: Buffer): void {
    for (let at = 0; at < l2.length; at += 8) {
      const high = l2.readUInt32BE(at);
      if ((high & 0x4000_0000) !== 0) this.#compressedClusters++;
      else if (offsetOf(high, l2.readUInt32BE(at + 4)) !== 0) this.#dataClusters++;
    }
    const { clusterBytes, compression } = this.#header;
    const perCompressed =
      compression === 'zlib' ? Math.ceil(clusterBytes / DEFLATE_RATIO_MAX) : ZSTD_FRAME_BYTES_MIN;
    // Only the last cluster may end behind the file's end.
    const dataBytes = Math.max(this.#dataClusters - 1, 0) * clusterBytes;
    if (dataBytes + this.#compressedClusters * perCompressed <= this.#fileBytes) return;
    throw damaged('several clusters of the disk are the same cluster of the file', 'l2_table');
  }

  #decode(l2: Buffer, at: number): Cluster {
    const high = l2.readUInt32BE(at);
    const low = l2.readUInt32BE(at + 4);
    if (high === 0 && low === 0) return ABSENT;
    if ((high & 0x4000_0000) !== 0) return this.#compressed(l2.readBigUInt64BE(at));
    const zero = (low & 1) !== 0;
    const reserved = (high & 0x3f00_0000) !== 0 || (low & 0x1fe) !== 0;
    if (reserved || (zero && this.#header.version === 2)) {
      throw damaged('an L2 entry has reserved bits', 'l2_table');
    }
    const offset = offsetOf(high, low);
    if (zero) return ZERO;
    if (offset === 0) return ABSENT;
    this.#checkOffset(offset, 'an L2 entry', 'l2_table');
    return { kind: 'data', offset };
  }

  /** Offset in the low bits, as many as the number of further sectors of 512 bytes leaves. */
  #compressed(entry: bigint): Cluster {
    const offsetBits = BigInt(62 - (this.#header.clusterBits - 8));
    const offset = Number(entry & ((1n << offsetBits) - 1n));
    const sectors = Number((entry & ((1n << 62n) - 1n)) >> offsetBits) + 1;
    if (offset < this.#header.clusterBytes || offset >= this.#fileBytes) {
      throw damaged(`a compressed cluster is at byte ${offset} of ${this.#fileBytes}`, 'l2_table');
    }
    const length = Math.min(sectors * 512 - (offset % 512), this.#fileBytes - offset);
    return { kind: 'compressed', offset, length };
  }
}
