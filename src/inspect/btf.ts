/** The kernel's description of its own types: BPF Type Format (Documentation/bpf/btf.rst). */
import { InspectError } from './errors.ts';

const MAGIC = 0xeb9f;
const HEADER = { LENGTH: 4, TYPE_OFFSET: 8, TYPE_LENGTH: 12, STRING_OFFSET: 16 } as const;
const KIND = {
  INT: 1,
  ARRAY: 3,
  STRUCT: 4,
  UNION: 5,
  ENUM: 6,
  TYPEDEF: 8,
  VOLATILE: 9,
  CONST: 10,
  RESTRICT: 11,
  FUNC_PROTO: 13,
  VAR: 14,
  DATASEC: 15,
  DECL_TAG: 17,
  TYPE_TAG: 18,
  ENUM64: 19,
} as const;
const TYPE_BYTES = 12;
const MEMBER_BYTES = 12;
/** Bytes that follow a type: for each of its parts, or once. */
const PART_BYTES: Readonly<Record<number, number>> = {
  [KIND.STRUCT]: MEMBER_BYTES,
  [KIND.UNION]: MEMBER_BYTES,
  [KIND.ENUM]: 8,
  [KIND.FUNC_PROTO]: 8,
  [KIND.DATASEC]: 12,
  [KIND.ENUM64]: 12,
};
const EXTRA_BYTES: Readonly<Record<number, number>> = {
  [KIND.INT]: 4,
  [KIND.ARRAY]: 12,
  [KIND.VAR]: 4,
  [KIND.DECL_TAG]: 4,
};
const ALIASES: readonly number[] = [KIND.TYPEDEF, KIND.VOLATILE, KIND.CONST, KIND.RESTRICT, KIND.TYPE_TAG];
const DEPTH_MAX = 16;

interface Member {
  readonly offset: number;
  readonly type: number;
}

export class KernelTypes {
  readonly #bytes: Buffer;
  readonly #strings: number;
  /** Where each type is, by its number. */
  readonly #at: Uint32Array;
  readonly #structs = new Map<string, number>();
  /** What was looked for before, by struct and field. */
  readonly #fields = new Map<string, Map<string, Member | undefined>>();

  /** @param bytes the section .BTF. Throws InspectError. */
  constructor(bytes: Buffer) {
    if (bytes.length < 24 || bytes.readUInt16LE(0) !== MAGIC) {
      throw new InspectError('the kernel does not describe its types (CONFIG_DEBUG_INFO_BTF)');
    }
    this.#bytes = bytes;
    const headerBytes = bytes.readUInt32LE(HEADER.LENGTH);
    const types = headerBytes + bytes.readUInt32LE(HEADER.TYPE_OFFSET);
    const end = types + bytes.readUInt32LE(HEADER.TYPE_LENGTH);
    this.#strings = headerBytes + bytes.readUInt32LE(HEADER.STRING_OFFSET);
    // Type 0 is void.
    const at = [0];
    for (let type = types; type + TYPE_BYTES <= end; ) {
      const { kind, parts } = this.#info(type);
      if (kind === KIND.STRUCT || kind === KIND.UNION) this.#note(type, at.length);
      at.push(type);
      type += TYPE_BYTES + (PART_BYTES[kind] ?? 0) * parts + (EXTRA_BYTES[kind] ?? 0);
    }
    this.#at = Uint32Array.from(at);
  }

  /** Is there such a field? `field`: names joined by dots, through structs within structs. */
  has(struct: string, field: string): boolean {
    return this.#find(struct, field) !== undefined;
  }

  /** Where in a struct a field is. Throws InspectError. */
  offset(struct: string, field: string): number {
    const found = this.#find(struct, field);
    if (found === undefined) throw new InspectError(`this kernel's ${struct} has no ${field}`);
    return found.offset;
  }

  #find(struct: string, path: string): Member | undefined {
    let fields = this.#fields.get(struct);
    if (fields === undefined) {
      fields = new Map();
      this.#fields.set(struct, fields);
    }
    const known = fields.get(path);
    if (known !== undefined || fields.has(path)) return known;
    const found = this.#search(struct, path);
    fields.set(path, found);
    return found;
  }

  #search(struct: string, path: string): Member | undefined {
    let found: Member | undefined = { offset: 0, type: this.#structs.get(struct) ?? 0 };
    for (const name of path.split('.')) {
      const inner: Member | undefined = found === undefined ? undefined : this.#member(found.type, name, 0);
      found =
        inner === undefined ? undefined : { type: inner.type, offset: (found?.offset ?? 0) + inner.offset };
    }
    return found;
  }

  /** A member of a struct, or of one without a name within it. */
  #member(type: number, name: string, depth: number): Member | undefined {
    const at = this.#at[this.#resolve(type)]!;
    const { kind, parts, bitFields } = this.#info(at);
    if ((kind !== KIND.STRUCT && kind !== KIND.UNION) || depth > DEPTH_MAX) return undefined;
    for (let i = 0; i < parts; i++) {
      const part = at + TYPE_BYTES + i * MEMBER_BYTES;
      const nameAt = this.#bytes.readUInt32LE(part);
      const inner = this.#bytes.readUInt32LE(part + 4);
      const bits = this.#bytes.readUInt32LE(part + 8) & (bitFields ? 0xff_ffff : 0xffff_ffff);
      const offset = (bits >>> 0) / 8;
      if (nameAt !== 0) {
        if (this.#string(nameAt) === name) return { offset: Math.floor(offset), type: inner };
        continue;
      }
      const found = this.#member(inner, name, depth + 1);
      if (found !== undefined) return { offset: offset + found.offset, type: found.type };
    }
    return undefined;
  }

  /** What a typedef or a qualifier stands for. */
  #resolve(type: number): number {
    let at = type;
    for (let depth = 0; depth < DEPTH_MAX && at !== 0; depth++) {
      if (!ALIASES.includes(this.#info(this.#at[at]!).kind)) return at;
      at = this.#bytes.readUInt32LE(this.#at[at]! + 8);
    }
    return at;
  }

  #info(at: number): { readonly kind: number; readonly parts: number; readonly bitFields: boolean } {
    const info = this.#bytes.readUInt32LE(at + 4);
    return { kind: (info >>> 24) & 31, parts: info & 0xffff, bitFields: info >>> 31 === 1 };
  }

  #note(at: number, type: number): void {
    const nameAt = this.#bytes.readUInt32LE(at);
    if (nameAt !== 0) this.#structs.set(this.#string(nameAt), type);
  }

  #string(offset: number): string {
    const start = this.#strings + offset;
    return this.#bytes.toString('latin1', start, this.#bytes.indexOf(0, start));
  }
}
