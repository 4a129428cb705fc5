import type { StoreLocation } from '../../contracts/backup.ts';
import { DirectoryObjects } from './directory-objects.ts';
import type { ObjectStore } from './objects.ts';
import { RcloneObjects } from './rclone-objects.ts';

/** AppErrors of the place. */
export function openObjects(location: StoreLocation): ObjectStore {
  return location.kind === 'directory'
    ? new DirectoryObjects(location.folder)
    : new RcloneObjects(location.remote);
}
