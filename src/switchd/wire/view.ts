/** Big-endian access to packets. Every read and write is bounds-checked by the caller's length check or by DataView. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
