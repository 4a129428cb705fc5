/** Reads the signatures of the functions that a WebAssembly module exports (core specification 2.0, section 5.5). */
import { VALUE_TYPES, type ValueType } from './opcodes.ts';

export interface ExportedFunction {
  readonly params: readonly ValueType[];
  readonly results: readonly ValueType[];
}

const SECTION = { type: 1, import: 2, function: 3, export: 7 } as const;
const typeNames = new Map(Object.entries(VALUE_TYPES).map(([name, code]) => [code, name as ValueType]));

class Reader {
  readonly #bytes: Uint8Array;
  position: number;
  constructor(bytes: Uint8Array, position: number) {
    this.#bytes = bytes;
    this.position = position;
  }
  u8(): number {
    return this.#bytes[this.position++];
  }
  u32(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.u8();
      value |= (byte & 0x7f) << shift;
      if ((byte & 0x80) === 0) return value >>> 0;
    }
  }
  name(): string {
    const length = this.u32();
    this.position += length;
    return new TextDecoder().decode(this.#bytes.subarray(this.position - length, this.position));
  }
  list<T>(item: () => T): T[] {
    return Array.from({ length: this.u32() }, item);
  }
  limits(): void {
    const flags = this.u8();
    this.u32();
    if (flags & 1) this.u32();
  }
}

const valueTypes = (r: Reader): ValueType[] =>
  r.list(() => {
    const type = typeNames.get(r.u8());
    if (type === undefined)
      throw new Error('a WebAssembly function type has a value type that is not a number or vector');
    return type;
  });

function signature(r: Reader): ExportedFunction {
  r.u8();
  return { params: valueTypes(r), results: valueTypes(r) };
}

/** Type index of an imported function; undefined for other imports. */
function importedFunction(r: Reader): number | undefined {
  r.name();
  r.name();
  const kind = r.u8();
  if (kind === 0) return r.u32();
  if (kind === 1) {
    r.u8();
    r.limits();
  } else if (kind === 2) {
    r.limits();
  } else {
    r.u8();
    r.u8();
  }
  return undefined;
}

/** Exported functions by name. `bytes` is a valid module. */
export function exportedFunctions(bytes: Uint8Array): Map<string, ExportedFunction> {
  let types: ExportedFunction[] = [];
  const functions: number[] = [];
  const exported = new Map<string, ExportedFunction>();
  for (let at = 8; at < bytes.length; ) {
    const header = new Reader(bytes, at);
    const id = header.u8();
    const size = header.u32();
    const r = new Reader(bytes, header.position);
    if (id === SECTION.type) types = r.list(() => signature(r));
    if (id === SECTION.import) {
      for (const index of r.list(() => importedFunction(r))) if (index !== undefined) functions.push(index);
    }
    if (id === SECTION.function) functions.push(...r.list(() => r.u32()));
    if (id === SECTION.export) {
      r.list(() => {
        const name = r.name();
        const kind = r.u8();
        const index = r.u32();
        if (kind === 0) exported.set(name, types[functions[index]]);
      });
    }
    at = header.position + size;
  }
  return exported;
}
