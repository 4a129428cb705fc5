/** Opening the disks of a virtual machine. */
import * as fs from 'node:fs';
import { AppError } from '../contracts/errors.ts';
import type { DiskConfig } from '../contracts/machine.ts';
import { openCowVolume } from './cow/open.ts';
import { GuestDisk } from './guest-disk.ts';
import { hostFile, openLocked } from './host-file.ts';
import { RawVolume } from './raw-volume.ts';

/**
 * Opens and locks the files of a disk. With `cow`, all writes go there (it is made when missing) and `file` is only
 * ever opened for reading; without, `file` itself is the disk, byte for byte: it is never probed for a COW header,
 * because its content is the guest's to write. Two writers never have the same file, nor does a writer have
 * the backing file of an open disk.
 *
 * AppErrors: `not_found`, `bad_image`, `in_use`, `cow_corrupt`, `cow_backing_missing`, `cow_backing_changed`,
 * `cow_backing_self`, `disk_full`, `io_error`; their field is `file`, `cow` or a field of the COW header.
 */
export function openDisk(config: DiskConfig): GuestDisk {
  const { device, file, cow, readOnly, limits, onError } = config;
  const volume = cow === undefined ? openRaw(file, readOnly) : openCowVolume(cow, file, readOnly);
  return new GuestDisk(device, volume, { readOnly, limits, onError });
}

function openRaw(file: string, readOnly: boolean): RawVolume {
  const { fd, sizeBytes } = openLocked(file, !readOnly, 'file');
  if (sizeBytes === 0) {
    fs.closeSync(fd);
    throw new AppError('bad_image', `the disk file ${file} is empty`, {
      field: 'file',
      remedy: 'make it the size that the disk shall have, for example with truncate -s 1G',
    });
  }
  return new RawVolume(hostFile(fd), sizeBytes);
}
