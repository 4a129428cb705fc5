/** Puts functions together into a WebAssembly module (core specification 2.0, section 5.5). */
import { ByteBuffer } from './byte-buffer.ts';
import type { FunctionWriter } from './function-writer.ts';
import { VALUE_TYPES, type ValueType } from './opcodes.ts';

export interface Signature {
  readonly params: readonly ValueType[];
  readonly results: readonly ValueType[];
}

const EXTERNAL = { function: 0, table: 1, memory: 2 } as const;
const FUNCREF = 0x70;

export class ModuleWriter {
  readonly #types: string[] = [];
  readonly #signatures: Signature[] = [];
  readonly #imports: { module: string; name: string; type: number }[] = [];
  readonly #functions: { writer: FunctionWriter; type: number; export: string }[] = [];
  #memory: { module: string; name: string; maximum: number } | undefined;

  #table: { module: string; name: string } | undefined;

  /** The index of a function type, for `callIndirect`. */
  type(signature: Signature): number {
    const key = `${signature.params}>${signature.results}`;
    const known = this.#types.indexOf(key);
    if (known >= 0) return known;
    this.#types.push(key);
    this.#signatures.push(signature);
    return this.#types.length - 1;
  }

  /** Imports a function and returns its index. Own functions are numbered behind all imports. */
  importFunction(module: string, name: string, signature: Signature): number {
    this.#imports.push({ module, name, type: this.type(signature) });
    return this.#imports.length - 1;
  }

  /** Imports the one shared memory; `maximum` in pages of 64 KiB. */
  importMemory(module: string, name: string, maximum: number): void {
    this.#memory = { module, name, maximum };
  }

  /** Imports table 0, of functions. */
  importTable(module: string, name: string): void {
    this.#table = { module, name };
  }

  addFunction(exportName: string, writer: FunctionWriter): void {
    this.#functions.push({ writer, type: this.type(writer), export: exportName });
  }

  #section(out: ByteBuffer, id: number, write: (body: ByteBuffer) => void): void {
    const body = new ByteBuffer();
    write(body);
    out.u8(id);
    out.u32(body.length);
    out.append(body.view());
  }

  finish(): Uint8Array {
    const out = new ByteBuffer();
    out.append(new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]));
    this.#section(out, 1, (body) => this.#writeTypes(body));
    this.#section(out, 2, (body) => this.#writeImports(body));
    this.#section(out, 3, (body) => {
      body.u32(this.#functions.length);
      for (const { type } of this.#functions) body.u32(type);
    });
    this.#section(out, 7, (body) => {
      body.u32(this.#functions.length);
      this.#functions.forEach((entry, index) => {
        body.name(entry.export);
        body.u8(EXTERNAL.function);
        body.u32(this.#imports.length + index);
      });
    });
    this.#writeHints(out);
    this.#section(out, 10, (body) => {
      body.u32(this.#functions.length);
      for (const { writer } of this.#functions) {
        const code = writer.code();
        body.u32(code.length);
        body.append(code);
      }
    });
    return out.view().slice();
  }

  /** The branch hinting proposal's custom section, which stands before the code. */
  #writeHints(out: ByteBuffer): void {
    const hinted = this.#functions
      .map(({ writer }, n) => ({ index: this.#imports.length + n, hints: writer.hints() }))
      .filter(({ hints }) => hints.length > 0);
    if (hinted.length === 0) return;
    this.#section(out, 0, (body) => {
      body.name('metadata.code.branch_hint');
      body.u32(hinted.length);
      for (const { index, hints } of hinted) {
        body.u32(index);
        body.u32(hints.length);
        for (const { position, hint } of hints) {
          body.u32(position);
          body.u32(1);
          body.u8(hint === 'likely' ? 1 : 0);
        }
      }
    });
  }

  #writeTypes(body: ByteBuffer): void {
    body.u32(this.#signatures.length);
    for (const { params, results } of this.#signatures) {
      body.u8(0x60);
      for (const list of [params, results]) {
        body.u32(list.length);
        for (const type of list) body.u8(VALUE_TYPES[type]);
      }
    }
  }

  #writeImports(body: ByteBuffer): void {
    body.u32(this.#imports.length + (this.#memory ? 1 : 0) + (this.#table ? 1 : 0));
    if (this.#memory) {
      body.name(this.#memory.module);
      body.name(this.#memory.name);
      body.u8(EXTERNAL.memory);
      body.u8(3); // shared, with a maximum
      body.u32(0);
      body.u32(this.#memory.maximum);
    }
    if (this.#table) {
      body.name(this.#table.module);
      body.name(this.#table.name);
      body.u8(EXTERNAL.table);
      body.u8(FUNCREF);
      body.u8(0);
      body.u32(0);
    }
    for (const { module, name, type } of this.#imports) {
      body.name(module);
      body.name(name);
      body.u8(EXTERNAL.function);
      body.u32(type);
    }
  }
}

/**
 * Imports functions of module "core" when they are first asked for.
 * @returns the index of a function by its name; throws when there is none of that name
 */
export function importOnUse(
  module: ModuleWriter,
  signatures: ReadonlyMap<string, Signature>,
): (name: string) => number {
  const indices = new Map<string, number>();
  return (name) => {
    let index = indices.get(name);
    if (index === undefined) {
      const signature = signatures.get(name);
      if (signature === undefined) throw new Error(`the core runtime has no export ${name}`);
      index = module.importFunction('core', name, signature);
      indices.set(name, index);
    }
    return index;
  };
}
