/** Early refusal of files that cannot be what they are imported as. */
import * as fs from 'node:fs';
import { AppError } from '../contracts/errors.ts';
import { fileError } from '../storage/errors.ts';
import type { PartName } from './manifest.ts';

/** Longest kernel command line that Linux on x86 takes, without its NUL. */
const APPEND_BYTES_MAX = 2047;

export function checkName(name: string): void {
  if (/^[A-Za-z0-9][A-Za-z0-9 ._:+~-]{0,127}$/.test(name)) return;
  throw new AppError('invalid_input', 'an image name has 1 to 128 letters, digits, spaces and . _ : + ~ -', {
    field: 'name',
    remedy: 'choose a name like debian-12',
  });
}

export function checkAppend(append: string): void {
  if (Buffer.byteLength(append) <= APPEND_BYTES_MAX && !/\p{Cc}/u.test(append)) return;
  throw new AppError('invalid_input', 'the kernel command line is too long or has control characters', {
    field: 'append',
    remedy: `give one line of at most ${APPEND_BYTES_MAX} bytes`,
  });
}

/** Opens the file's start and refuses what is plainly of another kind. `not_found`, `bad_kernel`, `bad_image`, `io_error`. */
export function checkPart(part: PartName, file: string): void {
  const { start, sizeBytes } = readStart(part, file);
  if (sizeBytes === 0) throw badImage(part, `${file} is empty`, 'give a file with content');
  if (part === 'kernel') checkKernel(file, start, sizeBytes);
  if (part === 'disk') checkDisk(file, start);
}

const START_BYTES = 8192 + 64;

function readStart(part: PartName, file: string): { readonly start: Buffer; readonly sizeBytes: number } {
  let fd: number;
  try {
    fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  } catch (error) {
    const missing = fs.statSync(file, { throwIfNoEntry: false }) === undefined;
    if (!missing) throw fileError(error, part, `cannot open ${file}`);
    throw new AppError('not_found', `there is no file ${file}`, {
      field: part,
      remedy: 'give the path of an existing file',
      cause: error,
    });
  }
  try {
    const stat = fs.fstatSync(fd);
    if (!stat.isFile()) throw badImage(part, `${file} is not a regular file`, 'give the path of a file');
    const start = Buffer.alloc(START_BYTES);
    const length = fs.readSync(fd, start, 0, START_BYTES, 0);
    return { start: start.subarray(0, length), sizeBytes: stat.size };
  } finally {
    fs.closeSync(fd);
  }
}

function badImage(part: PartName, detail: string, remedy: string): AppError {
  return new AppError('bad_image', detail, { field: part, remedy });
}

/** A bzImage has "HdrS" at 0x202 (Linux boot protocol), an ELF its magic, a multiboot kernel 0x1badb002 in its first 8 KiB. */
function checkKernel(file: string, start: Buffer, sizeBytes: number): void {
  const bzImage = start.length > 0x206 && start.toString('latin1', 0x202, 0x206) === 'HdrS';
  if (bzImage) checkBzImageSize(file, start, sizeBytes);
  const elf = start.toString('latin1', 0, 4) === '\x7fELF';
  const multiboot = start.indexOf(Buffer.from([0x02, 0xb0, 0xad, 0x1b])) >= 0;
  if (bzImage || elf || multiboot) return;
  throw new AppError('bad_kernel', `${file} is not a kernel: neither a bzImage nor an ELF nor multiboot`, {
    field: 'kernel',
    remedy: 'give an x86 Linux bzImage (vmlinuz), an ELF with a PVH note or a multiboot ELF',
  });
}

/** The setup header's setup_sects (0: 4) and syssize, in units of 16 bytes, give the least size (Linux boot protocol). */
function checkBzImageSize(file: string, start: Buffer, sizeBytes: number): void {
  const setupSectors = start[0x1f1] || 4;
  const expected = (setupSectors + 1) * 512 + start.readUInt32LE(0x1f4) * 16;
  if (sizeBytes >= expected) return;
  throw new AppError('image_truncated', `${file} is a bzImage of ${expected} bytes and has ${sizeBytes}`, {
    field: 'kernel',
    remedy: 'copy it again',
  });
}

function checkDisk(file: string, start: Buffer): void {
  const magic = start.toString('latin1', 0, 4);
  if (magic === 'OOOM' || magic === 'MOOO') {
    throw badImage(
      'disk',
      `${file} is a COW file, not a whole disk`,
      `merge it first: umlaut moo ${file} NEW`,
    );
  }
}
