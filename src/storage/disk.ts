/** Opening the disks of a virtual machine. */
import type { DiskConfig } from '../contracts/machine.ts';
import { ChangeTracker } from './change-tracker.ts';
import { backingSelf, sameFile } from './cow/create.ts';
import { GuestDisk } from './guest-disk.ts';
import { openLayers } from './layers/files.ts';
import type { LayeredVolume } from './layers/layered-volume.ts';
import { takeTracking } from './tracking-file.ts';
import { TrackingKeeper } from './tracking-keeper.ts';

/**
 * Opens and locks the files of a disk. With `cow`, all writes go there (it is made when missing) and `file` is only
 * ever opened for reading, and so are the `frozen` files between the two; without, `file` itself is the disk, byte for byte: it is never probed for a COW header,
 * because its content is the guest's to write. Two writers never have the same file, nor does a writer have
 * the backing file of an open disk.
 *
 * AppErrors: `not_found`, `bad_image`, `in_use`, `cow_corrupt`, `cow_backing_missing`, `cow_backing_changed`,
 * `cow_backing_self`, `disk_full`, `io_error`; their field is `file`, `cow` or a field of the COW header.
 */
export function openDisk(config: DiskConfig): GuestDisk {
  const { device, file, cow, readOnly, limits, onError, synchronous, noDiscard } = config;
  if (cow !== undefined && sameFile(cow, file)) throw backingSelf(cow);
  const volume = openLayers(config);
  const tracking = trackingOf(config, volume);
  return new GuestDisk(device, volume, { readOnly, limits, onError, tracking, synchronous, noDiscard });
}

/** What is known from the last time that the disk was open; the file with it is gone before a change can be made. */
function trackingOf({ tracking, readOnly }: DiskConfig, volume: LayeredVolume): TrackingKeeper | undefined {
  if (tracking === undefined) return undefined;
  const known = takeTracking(tracking, volume.openedAs, readOnly);
  return new TrackingKeeper(new ChangeTracker(volume.sizeBytes, known), tracking, volume);
}
