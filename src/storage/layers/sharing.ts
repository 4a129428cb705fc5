/** How much of each layer is seen by how many disks and snapshots, and which layer has a sector. */
import * as fs from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import {
  BITMAP_PAGE_BYTES,
  CowBitmap,
  filePageReader,
  type PageReader,
  SECTORS_PER_PAGE,
} from '../cow/bitmap.ts';
import { readCowHeader } from '../cow/create.ts';
import { COW_SECTOR_BYTES } from '../cow/header.ts';
import { fileError } from '../errors.ts';
import { type HostFile, hostFile } from '../host-file.ts';

export interface SharingLayer {
  readonly file: string;
  /** A base: it has all sectors. */
  readonly raw: boolean;
  /** Index of the layer it is over, which comes before it; undefined for the base. */
  readonly parent: number | undefined;
  /** Disks and snapshots that it is the newest content of. */
  readonly users: number;
}

export interface Sharing {
  uniqueBytes: number;
  sharedBytes: number;
  hiddenBytes: number;
}

/** Of each of the layers, in their order. They may change meanwhile: then the figures are of some moment in between. */
export async function countSharing(layers: readonly SharingLayer[], sizeBytes: number): Promise<Sharing[]> {
  const sectors = Math.ceil(sizeBytes / COW_SECTOR_BYTES);
  const opened = layers.map(({ file, raw }) => (raw ? undefined : openBitmap(file)));
  try {
    const counter = new SharingCounter(layers);
    const bitmaps = layers.map(() => new Uint8Array(BITMAP_PAGE_BYTES));
    for (let page = 0; page * SECTORS_PER_PAGE < sectors; page++) {
      for (const [index, bitmap] of bitmaps.entries()) {
        const own = opened[index];
        bitmap.fill(own === undefined ? 0xff : 0);
        own?.read(page, bitmap);
      }
      counter.addPage(bitmaps, Math.min(SECTORS_PER_PAGE, sectors - page * SECTORS_PER_PAGE));
      await setImmediate();
    }
    return counter.totals;
  } finally {
    for (const own of opened) own?.host.close();
  }
}

class SharingCounter {
  readonly totals: Sharing[];
  readonly #layers: readonly SharingLayer[];
  /** Per layer: how many would see it if all it had were seen. */
  readonly #seen: Uint32Array;

  constructor(layers: readonly SharingLayer[]) {
    this.#layers = layers;
    this.#seen = new Uint32Array(layers.length);
    this.totals = layers.map(() => ({ uniqueBytes: 0, sharedBytes: 0, hiddenBytes: 0 }));
  }

  addPage(bitmaps: readonly Uint8Array[], sectors: number): void {
    const whole = sectors >> 3;
    for (let byte = 0; byte < whole; byte++) {
      const isEven = bitmaps.every((bitmap) => bitmap[byte] === 0 || bitmap[byte] === 0xff);
      if (isEven) this.#add(bitmaps, byte, 1, 8);
      else for (let bit = 0; bit < 8; bit++) this.#add(bitmaps, byte, 1 << bit, 1);
    }
    for (let bit = 0; bit < (sectors & 7); bit++) this.#add(bitmaps, whole, 1 << bit, 1);
  }

  #add(bitmaps: readonly Uint8Array[], byte: number, mask: number, sectors: number): void {
    const seen = this.#seen;
    for (const [index, { users }] of this.#layers.entries()) seen[index] = users;
    for (let index = this.#layers.length - 1; index >= 0; index--) {
      const has = (bitmaps[index]![byte]! & mask) !== 0;
      if (has) this.#count(this.totals[index]!, seen[index]!, sectors * COW_SECTOR_BYTES);
      else seen[this.#layers[index]!.parent!]! += seen[index]!;
    }
  }

  #count(total: Sharing, seenBy: number, bytes: number): void {
    if (seenBy === 0) total.hiddenBytes += bytes;
    else if (seenBy === 1) total.uniqueBytes += bytes;
    else total.sharedBytes += bytes;
  }
}

/** Whether a copy-on-write file has the sector at an offset itself. AppErrors of files and headers. */
export function hasSector(file: string, offset: number): boolean {
  const { host, read, sectors } = openBitmap(file);
  try {
    return new CowBitmap(sectors, read).isSet(Math.floor(offset / COW_SECTOR_BYTES));
  } finally {
    host.close();
  }
}

function openBitmap(file: string): {
  readonly host: HostFile;
  readonly read: PageReader;
  readonly sectors: number;
} {
  try {
    const fd = fs.openSync(file, 'r');
    const host = hostFile(fd);
    try {
      const { sizeBytes, bitmapOffset, bitmapBytes } = readCowHeader(fd, file);
      const sectors = Math.min(Math.ceil(sizeBytes / COW_SECTOR_BYTES), bitmapBytes * 8);
      return { host, sectors, read: filePageReader(host, bitmapOffset, bitmapBytes) };
    } catch (error) {
      host.close();
      throw error;
    }
  } catch (error) {
    throw fileError(error, 'layer', `cannot read the layer ${file}`);
  }
}
