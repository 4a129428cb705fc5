/**
 * Keeps what a ChangeTracker knows while a disk is closed. The file is believed only when the disk's files are, to the nanosecond of
 * their change times, as they were when it was written; and it is gone from the disk before the first change of a new
 * run. So after a kill, a power cut or a change by anybody else there is no tracking, and the next backup reads everything; there
 * is never tracking that is wrong.
 */
import { hash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { type ChangeTracker, TRACKED_BYTES, type TrackedBase } from './change-tracker.ts';
import { removeQuietly, syncFolder } from './durable.ts';

const FORMAT = 'umlaut-changes 1';

/** One line of JSON, the bits of each store behind each other, SHA-256 of all that. */
interface Header {
  readonly format: string;
  readonly files: readonly string[];
  readonly chunkBytes: number;
  readonly bases: readonly { readonly store: string; readonly backupId: string; readonly bytes: number }[];
}

/**
 * What was known when the disk was closed, if the `states` of its files are those of then; nothing when that cannot be relied on. Unless the disk is read-only, the file is gone
 * afterwards, durably. Throws Node's errors.
 */
export function takeTracking(
  file: string,
  states: readonly string[],
  readOnly: boolean,
): ReadonlyMap<string, TrackedBase> {
  if (!fs.existsSync(file)) return new Map();
  const known = load(file, states);
  if (!readOnly) dropTracking(file);
  return known;
}

function load(file: string, states: readonly string[]): ReadonlyMap<string, TrackedBase> {
  try {
    return parse(fs.readFileSync(file), states);
  } catch {
    // It cannot be read, or is not what was written: nothing is known.
    return new Map();
  }
}

export function dropTracking(file: string): void {
  removeQuietly(file);
  syncFolder(path.dirname(file));
}

/** `states` of the disk's files, which nobody changes any more. Throws Node's errors. */
export function saveTracking(file: string, tracker: ChangeTracker, states: readonly string[]): void {
  const bases = [...tracker.bases];
  const header: Header = {
    format: FORMAT,
    files: states,
    chunkBytes: TRACKED_BYTES,
    bases: bases.map(([store, { backupId, bits }]) => ({ store, backupId, bytes: bits.length })),
  };
  const body = Buffer.concat([
    Buffer.from(`${JSON.stringify(header)}\n`),
    ...bases.map(([, { bits }]) => bits),
  ]);
  const draft = `${file}.partial`;
  const fd = fs.openSync(draft, 'w', 0o600);
  try {
    fs.writeFileSync(fd, Buffer.concat([body, hash('sha256', body, 'buffer')]));
    fs.fdatasyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
  fs.renameSync(draft, file);
  syncFolder(path.dirname(file));
}

function parse(bytes: Buffer, states: readonly string[]): ReadonlyMap<string, TrackedBase> {
  const bases = new Map<string, TrackedBase>();
  const body = bytes.subarray(0, -32);
  if (!hash('sha256', body, 'buffer').equals(bytes.subarray(-32))) return bases;
  const end = body.indexOf(10);
  // INVARIANT: the hash fits, so it is what `saveTracking` wrote.
  const header = JSON.parse(body.subarray(0, end).toString()) as Header;
  const same =
    header.format === FORMAT &&
    header.chunkBytes === TRACKED_BYTES &&
    header.files.join('\n') === states.join('\n');
  if (!same) return bases;
  let at = end + 1;
  for (const { store, backupId, bytes: length } of header.bases) {
    bases.set(store, { backupId, bits: Uint8Array.from(body.subarray(at, at + length)) });
    at += length;
  }
  return bases;
}
