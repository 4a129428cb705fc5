/** Writes cpio archives of the `newc` kind, which the kernel unpacks as an initramfs (Documentation/driver-api/early-userspace/buffer-format). */

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const TRAILER = 'TRAILER!!!';

export type CpioEntry =
  | { readonly kind: 'folder'; readonly path: string }
  | {
      readonly kind: 'file';
      readonly path: string;
      readonly content: Uint8Array;
      readonly executable: boolean;
    }
  | { readonly kind: 'link'; readonly path: string; readonly target: string };

const pad4 = (length: number): number => (4 - (length % 4)) % 4;

function record(inode: number, mode: number, path: string, content: Uint8Array): Buffer {
  const name = Buffer.from(`${path}\0`);
  const fields = [
    inode,
    mode,
    0, // uid
    0, // gid
    1, // nlink
    0, // mtime
    content.length,
    0, // device
    0,
    0, // rdev
    0,
    name.length,
    0, // checksum: none in this kind
  ];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
  return Buffer.concat([
    Buffer.from(header),
    name,
    Buffer.alloc(pad4(header.length + name.length)),
    content,
    Buffer.alloc(pad4(content.length)),
  ]);
}

function entryRecord(inode: number, entry: CpioEntry): Buffer {
  switch (entry.kind) {
    case 'folder':
      return record(inode, S_IFDIR | 0o755, entry.path, new Uint8Array());
    case 'file':
      return record(inode, S_IFREG | (entry.executable ? 0o755 : 0o644), entry.path, entry.content);
    case 'link':
      return record(inode, S_IFLNK | 0o777, entry.path, Buffer.from(entry.target));
  }
}

/** Folders must come before what is in them. Everything belongs to root. */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const records = entries.map((entry, index) => entryRecord(index + 1, entry));
  return Buffer.concat([...records, record(0, 0, TRAILER, new Uint8Array())]);
}
