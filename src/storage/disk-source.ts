/** A disk that is only read, whatever its format. */

/** Bytes that are read at any offset. */
export interface ByteSource {
  /** As the guest sees it; perhaps no multiple of 512. */
  readonly sizeBytes: number;
  /** Fills `into`, which is within the disk. AppError `bad_image`; otherwise BlockError. */
  read(offset: number, into: Uint8Array): Promise<void>;
}

/** Offsets and lengths in bytes. */
export interface DiskSource extends ByteSource {
  /** The next range from `offset` on that may hold something else than zeros, before `limit`. Undefined: there is none. */
  nextData(offset: number, limit?: number): Promise<DataRange | undefined>;
  close(): Promise<void>;
}

export interface DataRange {
  readonly start: number;
  readonly end: number;
}
