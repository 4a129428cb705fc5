/** Disks of virtual machines: raw files, UML's COW files, online backups, copies. */
export { type BackupProgress, beginWriting, prepareBackup } from './backup.ts';
export type { FilePlace, FileSystemPlace } from './backup-store/files.ts';
export { openObjects } from './backup-store/destination.ts';
export { type HeldStore, holdRemoteStore, isLost } from './backup-store/store-lease.ts';
export { holdStoreFolder } from './backup-store/store-lock.ts';
export { runStoreTask, type TaskOptions } from './backup-store/store-task.ts';
export { StoredFile } from './backup-store/stored-file.ts';
export type { StoreTaskName, StoreTasks } from './backup-store/tasks.ts';
export { type ConvertOptions, convertDisk, exportDisk } from './convert.ts';
export { backingFileOf, type CreateCowOptions, createCow, inspectCow } from './cow/create.ts';
export type { CowHeader } from './cow/header.ts';
export { type InPlaceMerge, type MergeOptions, mergeCow, mergeCowIntoBacking } from './cow/merge.ts';
export { type HeaderRepair, type RepairOptions, repairCowHeader } from './cow/repair.ts';
export { openDisk } from './disk.ts';
export type { FileEntry } from './ext4/file-system.ts';
export type { GuestDisk } from './guest-disk.ts';
export {
  createLayers,
  layerFacts,
  type NewLayer,
  openNewTop,
  replaceLayer,
  stampLayer,
} from './layers/files.ts';
export { type LayerMerge, mergeLayers } from './layers/merge-files.ts';
export { type RebaseOptions, rebaseDisk } from './layers/rebase.ts';
export { countSharing, hasSector, type Sharing } from './layers/sharing.ts';
export type { LayeredVolume } from './layers/layered-volume.ts';
export { type DiskFormat, detectFormat } from './open-source.ts';
export type { Compression } from './qcow2/header.ts';
export type { Qcow2Options } from './qcow2/writer.ts';
export { shrinkDisk, shrinkDiskFile } from './shrink-disk.ts';
export { SPILL_NAME } from './spill-file.ts';
export { type CopyOptions, copyDisk } from './restore.ts';
