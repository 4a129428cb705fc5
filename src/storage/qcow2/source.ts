/** Reading the disk in a qcow2 file, and in the backing files below it. */
import type { DataRange, DiskSource } from '../disk-source.ts';
import type { HostFile } from '../host-file.ts';
import { allSettled } from '../settle.ts';
import { decompressCluster } from './compression.ts';
import type { Qcow2Header } from './header.ts';
import { type Cluster, ClusterMap } from './tables.ts';

interface Run {
  readonly cluster: Cluster;
  /** Where in its first cluster it begins. */
  readonly within: number;
  readonly length: number;
}

export class Qcow2Source implements DiskSource {
  readonly sizeBytes: number;
  readonly #header: Qcow2Header;
  readonly #file: HostFile;
  readonly #map: ClusterMap;
  readonly #backing: DiskSource | undefined;

  private constructor(
    header: Qcow2Header,
    file: HostFile,
    fileBytes: number,
    backing: DiskSource | undefined,
  ) {
    this.sizeBytes = header.sizeBytes;
    this.#header = header;
    this.#file = file;
    this.#map = new ClusterMap(header, file, fileBytes);
    this.#backing = backing;
  }

  /** The files are the source's from now on, also when this fails. AppError `bad_image`. */
  static async open(
    header: Qcow2Header,
    file: HostFile,
    fileBytes: number,
    backing: DiskSource | undefined,
  ): Promise<Qcow2Source> {
    const source = new Qcow2Source(header, file, fileBytes, backing);
    try {
      await source.#map.open();
    } catch (error) {
      await source.close();
      throw error;
    }
    return source;
  }

  async nextData(offset: number, limit = this.sizeBytes): Promise<DataRange | undefined> {
    const { clusterBytes } = this.#header;
    // A disk above this one may be larger.
    const last = Math.min(limit, this.sizeBytes);
    for (let at = offset; at < last; ) {
      const index = Math.floor(at / clusterBytes);
      const cluster = await this.#map.at(index);
      const end = Math.min(this.#map.skipFrom(index) * clusterBytes, last);
      if (cluster.kind === 'data' || cluster.kind === 'compressed') return { start: at, end };
      const below = cluster.kind === 'absent' ? await this.#backing?.nextData(at, end) : undefined;
      if (below !== undefined) return below;
      at = end;
    }
    return undefined;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    const pending: Promise<void>[] = [];
    try {
      for (let done = 0; done < into.length; ) {
        const run = await this.#run(offset + done, into.length - done);
        pending.push(this.#readRun(run, offset + done, into.subarray(done, done + run.length)));
        done += run.length;
      }
    } catch (error) {
      pending.push(Promise.reject(error));
    }
    await allSettled(pending);
  }

  /** What of the disk is read at once: part of a cluster, or clusters that are neighbours in the file too. */
  async #run(at: number, lengthMax: number): Promise<Run> {
    const { clusterBytes } = this.#header;
    const index = Math.floor(at / clusterBytes);
    const within = at % clusterBytes;
    const cluster = await this.#map.at(index);
    let length = Math.min(clusterBytes - within, lengthMax);
    if (cluster.kind === 'compressed') return { cluster, within, length };
    for (let next = index + 1; length < lengthMax; next++) {
      const neighbour = await this.#map.at(next);
      if (neighbour.kind !== cluster.kind) break;
      const offset = neighbour.kind === 'data' && cluster.kind === 'data' ? neighbour.offset : undefined;
      if (cluster.kind === 'data' && offset !== cluster.offset + (next - index) * clusterBytes) break;
      length = Math.min(length + clusterBytes, lengthMax);
    }
    return { cluster, within, length };
  }

  async #readRun({ cluster, within }: Run, at: number, into: Uint8Array): Promise<void> {
    switch (cluster.kind) {
      case 'data':
        await this.#file.read(cluster.offset + within, [into], true);
        return;
      case 'compressed': {
        const packed = new Uint8Array(cluster.length);
        await this.#file.read(cluster.offset, [packed], true);
        const { compression, clusterBytes } = this.#header;
        const bytes = await decompressCluster(compression, packed, clusterBytes);
        into.set(bytes.subarray(within, within + into.length));
        return;
      }
      case 'zero':
        into.fill(0);
        return;
      case 'absent':
        return this.#readBelow(at, into);
    }
  }

  /** The backing file may be shorter than the disk: zeros follow. */
  async #readBelow(at: number, into: Uint8Array): Promise<void> {
    const length = Math.max(0, Math.min(into.length, (this.#backing?.sizeBytes ?? 0) - at));
    if (length > 0) await this.#backing?.read(at, into.subarray(0, length));
    into.fill(0, length);
  }

  async close(): Promise<void> {
    this.#file.close();
    await this.#backing?.close();
  }
}
