/** ELF executables as boot loaders see them (System V ABI; 32-bit and 64-bit, little-endian). */
import { BootError } from './errors.ts';

export interface ElfSegment {
  readonly offset: number;
  readonly fileBytes: number;
  readonly physical: number;
  readonly memoryBytes: number;
}

export interface ElfNote {
  readonly name: string;
  readonly type: number;
  readonly description: Uint8Array;
}

export interface ElfImage {
  readonly bits: 32 | 64;
  /** EM_386 = 3, EM_X86_64 = 62 */
  readonly machine: number;
  readonly entry: number;
  /** Loadable segments with something in them. */
  readonly segments: readonly ElfSegment[];
  readonly notes: readonly ElfNote[];
}

const PT_LOAD = 1;
const PT_NOTE = 4;
const SEGMENTS_MAX = 128;

interface ProgramHeader extends ElfSegment {
  readonly type: number;
}

export const isElf = (file: Uint8Array): boolean =>
  file.length >= 4 && file[0] === 0x7f && file[1] === 0x45 && file[2] === 0x4c && file[3] === 0x46;

/** Parses an ELF file. Throws BootError when it is damaged or not for this machine. */
export function parseElf(file: Uint8Array): ElfImage {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < 64) throw new BootError('bad_kernel', 'the ELF file ends within its header');
  const bits = view.getUint8(4) === 2 ? 64 : 32;
  const machine = view.getUint16(18, true);
  if (view.getUint8(5) !== 1 || (machine !== 3 && machine !== 62)) {
    throw new BootError('bad_kernel', 'the ELF file is not for x86');
  }
  const headers = programHeaders(view, bits);
  const u64 = (at: number): number => Number(view.getBigUint64(at, true));
  return {
    bits,
    machine,
    entry: bits === 64 ? u64(24) : view.getUint32(24, true),
    segments: headers.filter((header) => header.type === PT_LOAD && header.memoryBytes > 0),
    notes: headers.filter((header) => header.type === PT_NOTE).flatMap((header) => parseNotes(file, header)),
  };
}

function programHeaders(view: DataView, bits: 32 | 64): ProgramHeader[] {
  const u64 = (at: number): number => Number(view.getBigUint64(at, true));
  const u32 = (at: number): number => view.getUint32(at, true);
  const table = bits === 64 ? u64(32) : u32(28);
  const entryBytes = view.getUint16(bits === 64 ? 54 : 42, true);
  const count = view.getUint16(bits === 64 ? 56 : 44, true);
  if (count > SEGMENTS_MAX || entryBytes < (bits === 64 ? 56 : 32)) {
    throw new BootError('bad_kernel', 'the ELF file has no usable program headers');
  }
  if (table + count * entryBytes > view.byteLength) {
    throw new BootError('bad_kernel', 'the ELF file ends before its program headers');
  }
  return Array.from({ length: count }, (_, index) => {
    const at = table + index * entryBytes;
    const header =
      bits === 64
        ? {
            type: u32(at),
            offset: u64(at + 8),
            physical: u64(at + 24),
            fileBytes: u64(at + 32),
            memoryBytes: u64(at + 40),
          }
        : {
            type: u32(at),
            offset: u32(at + 4),
            physical: u32(at + 12),
            fileBytes: u32(at + 16),
            memoryBytes: u32(at + 20),
          };
    if (header.fileBytes > header.memoryBytes && header.type === PT_LOAD) {
      throw new BootError('bad_kernel', `ELF segment ${index} is larger in the file than in memory`);
    }
    if (header.offset + header.fileBytes > view.byteLength) {
      throw new BootError('bad_kernel', `the ELF file ends within segment ${index}`);
    }
    return header;
  });
}

function parseNotes(file: Uint8Array, header: ProgramHeader): ElfNote[] {
  const view = new DataView(file.buffer, file.byteOffset + header.offset, header.fileBytes);
  const notes: ElfNote[] = [];
  let at = 0;
  while (at + 12 <= view.byteLength) {
    const nameBytes = view.getUint32(at, true);
    const descriptionBytes = view.getUint32(at + 4, true);
    const name = at + 12;
    const description = name + Math.ceil(nameBytes / 4) * 4;
    const end = description + Math.ceil(descriptionBytes / 4) * 4;
    if (description + descriptionBytes > view.byteLength) break;
    const start = file.byteOffset + header.offset;
    notes.push({
      name: new TextDecoder('latin1').decode(
        new Uint8Array(file.buffer, start + name, Math.max(0, nameBytes - 1)),
      ),
      type: view.getUint32(at + 8, true),
      description: new Uint8Array(file.buffer, start + description, descriptionBytes),
    });
    at = end;
  }
  return notes;
}
