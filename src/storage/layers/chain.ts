/** Following the headers of copy-on-write files down to the raw file below all of them, where no database knows the way. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { AppError } from '../../contracts/errors.ts';
import { backingSelf, inspectCow, readCowHeader, sameFile } from '../cow/create.ts';
import { isCow } from '../cow/header.ts';
import { isInside } from '../durable.ts';
import { openLocked } from '../host-file.ts';

/** More files than this over each other are refused. */
const CHAIN_MAX = 256;

/** As in a DiskConfig. */
export interface Chain {
  readonly file: string;
  readonly frozen: readonly string[];
  readonly cow: string;
}

/**
 * The files of the disk whose top is the copy-on-write file `cow`. A backing file of the size that the header gives is raw, whatever
 * it begins with: its content is a guest's. One of another size that is a copy-on-write file of a disk of that size is a layer.
 * Headers are hostile input: layers, and what they name, must be in the folder of `cow` or in folders below that, wherever
 * links lead; only what `cow` itself names as its raw base may be anywhere.
 *
 * AppErrors: those of `inspectCow`, `forbidden`, `cow_backing_self` for a circle, `unsupported` for too many. What does not fit otherwise is told when
 * the files are opened.
 */
export function findChain(cow: string): Chain {
  const folder = fs.realpathSync(path.dirname(cow));
  const layers = [cow];
  for (;;) {
    const above = layers[0]!;
    const { backingPath, sizeBytes } = inspectCow(above);
    if (sameFile(above, backingPath)) throw backingSelf(above);
    const isLayer = isLayerOf(backingPath, sizeBytes);
    // Nothing of a file elsewhere is told, not even whether it is there.
    if ((isLayer || layers.length > 1) && !isInside(realPath(backingPath), folder)) {
      throw new AppError('forbidden', `${above} names a backing file outside of ${folder}: ${backingPath}`, {
        field: 'backing_file',
        remedy: 'put the layers into one folder, or merge them one by one',
      });
    }
    if (!isLayer) return { file: backingPath, frozen: layers.slice(0, -1), cow };
    if (layers.some((layer) => sameFile(layer, backingPath))) throw backingSelf(above);
    if (layers.length === CHAIN_MAX) {
      throw new AppError('unsupported', `more than ${CHAIN_MAX} files are over each other`, {
        field: 'backing_file',
      });
    }
    layers.unshift(backingPath);
  }
}

/** Links resolved as far as there are any. */
function realPath(file: string): string {
  try {
    return fs.realpathSync(file);
  } catch {
    return path.resolve(file);
  }
}

function isLayerOf(file: string, sizeBytes: number): boolean {
  const stat = fs.statSync(file, { throwIfNoEntry: false });
  if (stat === undefined || !stat.isFile() || stat.size === sizeBytes || stat.size < 8) return false;
  const { fd } = openLocked(file, false, 'backing_file');
  try {
    const start = new Uint8Array(4);
    fs.readSync(fd, start, 0, start.length, 0);
    return isCow(start) && readCowHeader(fd, file).sizeBytes === sizeBytes;
  } finally {
    fs.closeSync(fd);
  }
}
