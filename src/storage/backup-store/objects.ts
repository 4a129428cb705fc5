/** Where the objects of a store are: a folder, or a remote that rclone knows. */

export interface StoredObject {
  readonly name: string;
  readonly sizeBytes: number;
}

/** `leases`: of remotes alone. */
export type ObjectFolder = 'packs' | 'manifests' | 'leases';

/** Names are `packs/…` and so on. Failure rejects with AppError. */
export interface ObjectStore {
  /** Whole and durable when it resolves; nothing of it is listed when it rejects. Replaces an object of the name. */
  put(name: string, bytes: Uint8Array): Promise<void>;
  /** `not_found` when there is none. */
  get(name: string, bytesMax: number): Promise<Buffer>;
  /** Exactly `length` bytes. `not_found`, `backup_corrupt` when the object is shorter. */
  read(name: string, offset: number, length: number): Promise<Buffer>;
  /** Objects below `folder`, names without it. */
  list(folder: ObjectFolder): Promise<StoredObject[]>;
  /** Also of one that is not there. */
  remove(name: string): Promise<void>;
  /** Removes what killed processes left half written. Nobody may be writing. */
  removeDrafts(): void;
  close(): void;
}
