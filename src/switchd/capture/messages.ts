/** Between a capture in the switch's thread and its reader. */
export interface CaptureOptions {
  /** Of this port alone, both directions; of the whole network, each frame once, when missing. */
  readonly portId?: string | undefined;
  /** As compileFilter takes it. */
  readonly filter: string;
  /** Of each frame. */
  readonly snapBytes: number;
  /** The capture ends by itself after this time, or before its file would be longer than this. */
  readonly maxSeconds: number;
  readonly maxBytes: number;
}

export type FromCapture = { readonly type: 'bytes'; readonly bytes: Uint8Array } | { readonly type: 'end' };

/** Bytes that the reader has taken. */
export interface ToCapture {
  readonly taken: number;
}
