/**
 * Writes a qcow2 file from its start to its end: clusters as they come, each L2 table behind its clusters, then the L1
 * table, the refcounts, and the header. Clusters of zeros are left out, or those that are as in the backing file.
 */
import { AppError } from '../../contracts/errors.ts';
import type { BackupTarget } from '../backup-target.ts';
import { compressCluster } from './compression.ts';
import { type Compression, encodeQcow2Header, type NewQcow2 } from './header.ts';

export const CLUSTER_BITS = 16;
const CLUSTER_BYTES = 2 ** CLUSTER_BITS;
const PER_TABLE = CLUSTER_BYTES / 8;
const REFCOUNTS_PER_BLOCK = CLUSTER_BYTES / 2;
/** Bits 62 and 63 of a table entry, in its high half. */
const COMPRESSED = 0x4000_0000;
/** The cluster is this entry's alone. */
const COPIED = 0x8000_0000;
/** An entry of version 3 for a cluster of zeros. */
const ZERO_ENTRY = 1;

export interface Qcow2Options {
  readonly version: 2 | 3;
  /** Of the clusters; undefined leaves them as they are. Version 2 knows zlib only. */
  readonly compression?: Compression | undefined;
  /** As it is named in the header. */
  readonly backing?: NewQcow2['backing'];
}

export class Qcow2Writer {
  readonly #target: BackupTarget;
  readonly #options: Qcow2Options;
  readonly #sizeBytes: number;
  readonly #l1: Buffer;
  #l2 = Buffer.alloc(CLUSTER_BYTES);
  #l2Index = 0;
  #l2Used = false;
  /** By cluster of the file. */
  #refcounts = new Uint16Array(1024);
  /** Compressed clusters up to `#end` that are not written yet. */
  #packed: Uint8Array[] = [];
  /** Where the next byte goes. */
  #end = CLUSTER_BYTES;

  /** `target` begins empty. AppError `unsupported` for zstd in version 2. */
  constructor(target: BackupTarget, sizeBytes: number, options: Qcow2Options) {
    if (options.version === 2 && options.compression === 'zstd') {
      throw new AppError('unsupported', 'version 2 of qcow2 has no zstd', {
        field: 'compress',
        remedy: 'use zlib, or version 3',
      });
    }
    this.#target = target;
    this.#options = options;
    this.#sizeBytes = sizeBytes;
    this.#l1 = Buffer.alloc(Math.ceil(sizeBytes / CLUSTER_BYTES / PER_TABLE) * 8);
    this.#refcounts[0] = 1;
  }

  /**
   * Writes whole clusters of the disk, the last one filled up with zeros. Calls go through the disk in ascending order.
   * @param below the same clusters of the backing file; zeros when undefined
   */
  async write(offset: number, bytes: Uint8Array, below?: Uint8Array): Promise<void> {
    const clusters: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += CLUSTER_BYTES) {
      clusters.push(bytes.subarray(at, at + CLUSTER_BYTES));
    }
    const { compression, version } = this.#options;
    const packed = await Promise.all(
      clusters.map((cluster, index) => {
        const theirs = below?.subarray(index * CLUSTER_BYTES, (index + 1) * CLUSTER_BYTES);
        if (theirs === undefined ? isZero(cluster) : Buffer.compare(cluster, theirs) === 0) return undefined;
        if (version === 3 && isZero(cluster)) return EMPTY;
        return compression === undefined ? cluster : compressCluster(compression, cluster);
      }),
    );
    let run: Uint8Array[] = [];
    for (const [index, cluster] of clusters.entries()) {
      const stored = packed[index];
      const at = offset / CLUSTER_BYTES + index;
      const whole = stored !== undefined && stored.length >= cluster.length;
      if (run.length > 0 && (!whole || at % PER_TABLE === 0)) {
        await this.#addRun(at - run.length, run);
        run = [];
      }
      if (whole) run.push(cluster);
      else if (stored === EMPTY) await this.#addZero(at);
      else if (stored !== undefined) await this.#addCompressed(at, stored);
    }
    if (run.length > 0) await this.#addRun(offset / CLUSTER_BYTES + clusters.length - run.length, run);
    await this.#writePacked();
  }

  /** Neighbouring clusters of one L2 table. */
  async #addRun(index: number, run: readonly Uint8Array[]): Promise<void> {
    await this.#useTable(index);
    const offset = await this.#place(run.length === 1 ? run[0]! : Buffer.concat(run));
    for (let at = 0; at < run.length; at++) {
      setEntry(this.#l2, ((index + at) % PER_TABLE) * 8, offset + at * CLUSTER_BYTES, COPIED);
    }
  }

  /** Hides the backing file's cluster, without data. */
  async #addZero(index: number): Promise<void> {
    await this.#useTable(index);
    setEntry(this.#l2, (index % PER_TABLE) * 8, ZERO_ENTRY, 0);
  }

  async #addCompressed(index: number, packed: Uint8Array): Promise<void> {
    await this.#useTable(index);
    const offset = this.#end;
    this.#packed.push(packed);
    this.#end += packed.length;
    const lastSector = Math.floor((this.#end - 1) / 512);
    const furtherSectors = lastSector - Math.floor(offset / 512);
    // A reader takes whole sectors, and qemu-img counts what it takes.
    const lastCluster = Math.floor((lastSector * 512) / CLUSTER_BYTES);
    for (let cluster = Math.floor(offset / CLUSTER_BYTES); cluster <= lastCluster; cluster++) {
      this.#refer(cluster);
    }
    const offsetBits = 62 - (CLUSTER_BITS - 8);
    const highBits = COMPRESSED | (furtherSectors << (offsetBits - 32));
    setEntry(this.#l2, (index % PER_TABLE) * 8, offset, highBits);
  }

  async #writePacked(): Promise<void> {
    if (this.#packed.length === 0) return;
    const bytes = Buffer.concat(this.#packed);
    this.#packed = [];
    await this.#target.write(this.#end - bytes.length, bytes);
  }

  async #useTable(index: number): Promise<void> {
    const table = Math.floor(index / PER_TABLE);
    if (table !== this.#l2Index) await this.#endTable(table);
    this.#l2Used = true;
  }

  /** Whole clusters, at the next free one. */
  async #place(bytes: Uint8Array): Promise<number> {
    await this.#writePacked();
    const offset = this.#align();
    await this.#target.write(offset, bytes);
    this.#end = offset + bytes.length;
    for (let at = offset; at < this.#end; at += CLUSTER_BYTES) this.#refer(at / CLUSTER_BYTES);
    return offset;
  }

  #align(): number {
    return Math.ceil(this.#end / CLUSTER_BYTES) * CLUSTER_BYTES;
  }

  #refer(cluster: number): void {
    if (cluster >= this.#refcounts.length) {
      const larger = new Uint16Array(cluster * 2);
      larger.set(this.#refcounts);
      this.#refcounts = larger;
    }
    this.#refcounts[cluster] = this.#refcounts[cluster]! + 1;
  }

  async #endTable(next: number): Promise<void> {
    if (this.#l2Used) {
      setEntry(this.#l1, this.#l2Index * 8, await this.#place(this.#l2), COPIED);
      this.#l2 = Buffer.alloc(CLUSTER_BYTES);
      this.#l2Used = false;
    }
    this.#l2Index = next;
  }

  /** Everything that is not the disk's clusters; the caller completes the target. */
  async finish(): Promise<void> {
    await this.#endTable(0);
    const l1Offset = await this.#place(this.#l1);
    const tables = refcountTables(this.#align() / CLUSTER_BYTES);
    const refcountOffset = this.#align();
    const first = refcountOffset / CLUSTER_BYTES;
    for (let index = 0; index < tables.tableClusters + tables.blocks; index++) this.#refer(first + index);
    await this.#writeRefcounts(refcountOffset, tables);
    const header = encodeQcow2Header({
      version: this.#options.version,
      clusterBits: CLUSTER_BITS,
      sizeBytes: this.#sizeBytes,
      compression: this.#options.compression ?? 'zlib',
      l1Offset,
      l1Entries: this.#l1.length / 8,
      refcountTableOffset: refcountOffset,
      refcountTableClusters: tables.tableClusters,
      backing: this.#options.backing,
    });
    await this.#target.write(0, header);
    this.#target.resize((first + tables.tableClusters + tables.blocks) * CLUSTER_BYTES);
  }

  /** The table, then its blocks, big-endian. */
  async #writeRefcounts(offset: number, { tableClusters, blocks }: RefcountTables): Promise<void> {
    const table = Buffer.alloc(tableClusters * CLUSTER_BYTES);
    for (let block = 0; block < blocks; block++) {
      const at = offset + (tableClusters + block) * CLUSTER_BYTES;
      setEntry(table, block * 8, at, 0);
      const counts = this.#refcounts.subarray(block * REFCOUNTS_PER_BLOCK, (block + 1) * REFCOUNTS_PER_BLOCK);
      const bytes = Buffer.alloc(CLUSTER_BYTES);
      for (const [index, count] of counts.entries()) bytes.writeUInt16BE(count, index * 2);
      await this.#target.write(at, bytes);
    }
    await this.#target.write(offset, table);
  }
}

interface RefcountTables {
  readonly tableClusters: number;
  readonly blocks: number;
}

/** They count themselves too. */
function refcountTables(usedClusters: number): RefcountTables {
  let blocks = 0;
  let tableClusters = 0;
  for (;;) {
    const needed = Math.ceil((usedClusters + blocks + tableClusters) / REFCOUNTS_PER_BLOCK);
    if (needed === blocks) return { tableClusters, blocks };
    blocks = needed;
    tableClusters = Math.ceil((blocks * 8) / CLUSTER_BYTES);
  }
}

function setEntry(table: Buffer, at: number, offset: number, highBits: number): void {
  table.writeUInt32BE((Math.floor(offset / 2 ** 32) | highBits) >>> 0, at);
  table.writeUInt32BE(offset >>> 0, at + 4);
}

const ZEROS = Buffer.alloc(CLUSTER_BYTES);
/** Stands for a cluster of zeros that is not absent. */
const EMPTY = new Uint8Array(0);

function isZero(cluster: Uint8Array): boolean {
  return ZEROS.compare(cluster, 0, cluster.length, 0, cluster.length) === 0;
}
