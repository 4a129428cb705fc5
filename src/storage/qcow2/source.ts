/** Reading the disk in a qcow2 file, and in the backing files below it. */
import type { DataRange, DiskSource } from '../disk-source.ts';
import type { HostFile } from '../host-file.ts';
import { decompressCluster } from './compression.ts';
import type { Qcow2Header } from './header.ts';
import { type Cluster, ClusterMap } from './tables.ts';

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
    const { clusterBytes } = this.#header;
    for (let done = 0; done < into.length; ) {
      const at = offset + done;
      const cluster = await this.#map.at(Math.floor(at / clusterBytes));
      const within = at % clusterBytes;
      const length = Math.min(clusterBytes - within, into.length - done);
      await this.#readCluster(cluster, at, within, into.subarray(done, done + length));
      done += length;
    }
  }

  async #readCluster(cluster: Cluster, at: number, within: number, into: Uint8Array): Promise<void> {
    switch (cluster.kind) {
      case 'data':
        return void (await this.#file.read(cluster.offset + within, [into], true));
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
