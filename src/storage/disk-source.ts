/** A disk that is read from its start to its end, whatever its format. */

/** Offsets and lengths in bytes. */
export interface DiskSource {
  /** As the guest sees it; perhaps no multiple of 512. */
  readonly sizeBytes: number;
  /** The next range from `offset` on that may hold something else than zeros, before `limit`. Undefined: there is none. */
  nextData(offset: number, limit?: number): Promise<DataRange | undefined>;
  /** Fills `into`, which is within the disk. AppError `bad_image`; otherwise BlockError. */
  read(offset: number, into: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

export interface DataRange {
  readonly start: number;
  readonly end: number;
}
