/**
 * A volume of ISO 9660 (ECMA-119) with a few files in its root, whose names are kept by Rock Ridge (IEEE P1282): what cloud-init
 * takes a seed from. Made in memory.
 */
const SECTOR = 2048;
const SYSTEM_SECTORS = 16;
const PATH_TABLE_LITTLE = SYSTEM_SECTORS + 2;
const PATH_TABLE_BIG = PATH_TABLE_LITTLE + 1;
const ROOT = PATH_TABLE_BIG + 1;
const PATH_TABLE_BYTES = 10;
const FLAG_DIRECTORY = 2;
const FILE_MODE = 0o100444;
const FOLDER_MODE = 0o040555;
const LABEL_BYTES = 32;

export interface VolumeFile {
  readonly name: string;
  readonly content: Uint8Array;
}

/** At most about twenty files: their records must fit into one sector. Throws RangeError otherwise. */
export function isoVolume(label: string, files: readonly VolumeFile[], date = new Date()): Uint8Array {
  const placed: { file: VolumeFile; short: string; sector: number }[] = [];
  let next = ROOT + 1;
  for (const [index, file] of files.entries()) {
    placed.push({ file, short: `FILE${String(index).padStart(4, '0')}.;1`, sector: next });
    next += Math.max(1, Math.ceil(file.content.length / SECTOR));
  }
  const volume = Buffer.alloc(next * SECTOR);
  descriptor(label, next, date).copy(volume, SYSTEM_SECTORS * SECTOR);
  volume.set([255, ...Buffer.from('CD001'), 1], (SYSTEM_SECTORS + 1) * SECTOR);
  pathTable('little').copy(volume, PATH_TABLE_LITTLE * SECTOR);
  pathTable('big').copy(volume, PATH_TABLE_BIG * SECTOR);
  const folder = { sector: ROOT, bytes: SECTOR, flags: FLAG_DIRECTORY, date };
  const records = [
    record({ ...folder, id: '\0', use: [sharingProtocol(), posixAttributes(FOLDER_MODE), reference()] }),
    record({ ...folder, id: '\x01', use: [posixAttributes(FOLDER_MODE)] }),
    ...placed.map(({ file, short, sector }) => {
      const use = [posixAttributes(FILE_MODE), alternateName(file.name)];
      return record({ sector, bytes: file.content.length, flags: 0, date, id: short, use });
    }),
  ];
  const root = Buffer.concat(records);
  if (root.length > SECTOR) throw new RangeError(`${files.length} files do not fit into one folder`);
  root.copy(volume, ROOT * SECTOR);
  for (const { file, sector } of placed) volume.set(file.content, sector * SECTOR);
  return volume;
}

/** ECMA-119 §8.4 */
function descriptor(label: string, sectors: number, date: Date): Buffer {
  const bytes = Buffer.alloc(SECTOR);
  bytes.set([1, ...Buffer.from('CD001'), 1]);
  bytes.fill(' ', 8, 40);
  bytes.write(label.padEnd(LABEL_BYTES), 40, LABEL_BYTES, 'latin1');
  both32(sectors).copy(bytes, 80);
  both16(1).copy(bytes, 120);
  both16(1).copy(bytes, 124);
  both16(SECTOR).copy(bytes, 128);
  both32(PATH_TABLE_BYTES).copy(bytes, 132);
  bytes.writeUInt32LE(PATH_TABLE_LITTLE, 140);
  bytes.writeUInt32BE(PATH_TABLE_BIG, 148);
  record({ sector: ROOT, bytes: SECTOR, flags: FLAG_DIRECTORY, date, id: '\0', use: [] }).copy(bytes, 156);
  bytes.fill(' ', 190, 813);
  const made = `${date.toISOString().replaceAll(/\D/g, '').slice(0, 16)}\0`;
  const never = `${'0'.repeat(16)}\0`;
  bytes.write(`${made}${made}${never}${never}`, 813, 'latin1');
  bytes[881] = 1;
  return bytes;
}

function pathTable(order: 'little' | 'big'): Buffer {
  const bytes = Buffer.alloc(PATH_TABLE_BYTES);
  bytes[0] = 1;
  if (order === 'little') bytes.writeUInt32LE(ROOT, 2);
  else bytes.writeUInt32BE(ROOT, 2);
  bytes.writeUInt16LE(order === 'little' ? 1 : 0x100, 6);
  return bytes;
}

interface RecordFields {
  readonly sector: number;
  readonly bytes: number;
  readonly flags: number;
  readonly date: Date;
  readonly id: string;
  /** System use entries (IEEE P1281). */
  readonly use: readonly Buffer[];
}

/** A directory record (ECMA-119 §9.1). */
function record({ sector, bytes, flags, date, id, use }: RecordFields): Buffer {
  const name = Buffer.from(id, 'latin1');
  const head = Buffer.alloc((33 + name.length + 1) & ~1);
  both32(sector).copy(head, 2);
  both32(bytes).copy(head, 10);
  const day = [date.getUTCFullYear() - 1900, date.getUTCMonth() + 1, date.getUTCDate()];
  head.set([...day, date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds(), 0, flags], 18);
  both16(1).copy(head, 28);
  head[32] = name.length;
  head.set(name, 33);
  const whole = Buffer.concat([head, ...use]);
  const padded = Buffer.concat([whole, Buffer.alloc(whole.length & 1)]);
  padded[0] = padded.length;
  return padded;
}

const entry = (signature: string, data: readonly number[]): Buffer =>
  Buffer.from([...Buffer.from(signature), 4 + data.length, 1, ...data]);

/** SP: the volume has system use entries. */
const sharingProtocol = (): Buffer => entry('SP', [0xbe, 0xef, 0]);

/** ER: they are Rock Ridge's. */
function reference(): Buffer {
  const id = Buffer.from('RRIP_1991A');
  return entry('ER', [id.length, 0, 0, 1, ...id]);
}

/** PX: mode and links; owned by root. */
const posixAttributes = (mode: number): Buffer =>
  entry('PX', [...both32(mode), ...both32(1), ...both32(0), ...both32(0)]);

/** NM */
const alternateName = (name: string): Buffer => entry('NM', [0, ...Buffer.from(name)]);

function both32(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(value, 0);
  bytes.writeUInt32BE(value, 4);
  return bytes;
}

function both16(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(value, 0);
  bytes.writeUInt16BE(value, 2);
  return bytes;
}
