/** What a VM's own thread needs of storage: it loads what this loads, once for each VM. */
export { type BackupRun, prepareBackup } from './backup.ts';
export { openDisk } from './disk.ts';
export type { DiskFailure, GuestDisk } from './guest-disk.ts';
export { openFrozen, openLower, openNewTop } from './layers/files.ts';
