/** Decodes a block: from one RIP to the next unconditional transfer, the page's end, or a length limit. */
import { BLOCK, type MemoryMap, MODE, UOP } from '../layout.ts';
import { CodeBytes, FetchFault } from './code-bytes.ts';
import { DeviceNotAvailable, FLOW, type Flow, Instruction, UndefinedOpcode, ZERO } from './instruction.ts';
import { oneByte, table38, table3a, twoByte } from './tables.ts';
import { UopWriter } from './uop-writer.ts';

/** Instructions in a block: DONE has 8 bits, and interrupts wait for a block's end. */
const MAX_INSTRUCTIONS = 48;
/** Room that a block may need in the arena. */
const MAX_BLOCK_BYTES = BLOCK.SIZE + (MAX_INSTRUCTIONS + 1) * 12 * UOP.SIZE;

const VECTOR = { UD: 6, NM: 7 } as const;

export interface FetchTranslation {
  /** RAM offset of the code at the linear address; throws FetchFault with the fault pending. */
  (linear: bigint): number;
}

export class BlockDecoder {
  readonly #ram: Uint8Array;
  readonly #view: DataView;
  readonly #out: UopWriter;
  readonly #map: MemoryMap;
  #free: number;

  constructor(memory: WebAssembly.Memory, map: MemoryMap) {
    this.#ram = new Uint8Array(memory.buffer, map.ram, map.ramBytes);
    this.#view = new DataView(memory.buffer);
    this.#out = new UopWriter(memory.buffer);
    this.#map = map;
    this.#free = map.uopArena;
  }

  /** True when the arena may not hold another block: flush all blocks, then `clear`. */
  get full(): boolean {
    return this.#free + MAX_BLOCK_BYTES > this.#map.uopArenaEnd;
  }
  clear(): void {
    this.#free = this.#map.uopArena;
  }

  /**
   * Decodes the block at a RAM offset and writes it to the arena.
   * @param linear its linear address
   * @param translate finds the page that follows, when an instruction crosses
   * @returns address of the block's header; FetchFault is thrown when the first instruction cannot be fetched
   */
  decode(ramOffset: number, linear: bigint, mode: number, translate: FetchTranslation): number {
    const header = this.#free;
    const start = ramOffset & 4095;
    const nextPage = (linear & ~4095n) + 4096n;
    const code = new CodeBytes(this.#ram, ramOffset - start, start, () => translate(nextPage));
    this.#out.begin(header + BLOCK.SIZE);
    const instructions = this.#instructions(code, mode);
    const length = code.pageOffset - start;
    this.#writeHeader(header, ramOffset, mode, length, instructions, code.secondPage);
    this.#free = (this.#out.end + 15) & ~15;
    return header;
  }

  #writeHeader(
    at: number,
    ramOffset: number,
    mode: number,
    length: number,
    count: number,
    page2: number,
  ): void {
    const view = this.#view;
    view.setBigUint64(at + BLOCK.PHYS, BigInt(ramOffset), true);
    view.setUint32(at + BLOCK.MODE, mode, true);
    view.setUint16(at + BLOCK.LENGTH, length, true);
    view.setUint16(at + BLOCK.INSTRUCTIONS, count, true);
    view.setUint32(at + BLOCK.HASH_NEXT, 0, true);
    view.setUint32(at + BLOCK.PAGE_NEXT, 0, true);
    view.setUint32(at + BLOCK.HEAT, 0, true);
    view.setUint32(at + BLOCK.DEAD, 0, true);
    view.setUint32(at + BLOCK.PAGE2, page2 < 0 ? BLOCK.NO_PAGE : page2 >>> 12, true);
    view.setUint32(at + BLOCK.PAGE2_NEXT, 0, true);
  }

  /** Decodes instructions until the block ends; returns how many. */
  #instructions(code: CodeBytes, mode: number): number {
    const limit = mode & MODE.SINGLE_STEP ? 1 : MAX_INSTRUCTIONS;
    let shadow = false;
    for (let done = 0; ; done++) {
      const first = this.#out.count;
      const at = code.pageOffset;
      const flow = this.#instruction(code, mode, done);
      if (code.crossed && done > 0) {
        // An instruction that crosses into the next page has a block of its own.
        this.#out.truncate(first);
        code.rewind(at);
        this.#end('next', at, done - 1);
        return done;
      }
      if (flow === FLOW.END) return done + 1;
      if (flow === FLOW.CHECK || shadow || limit === 1) {
        this.#end('next.check', code.pageOffset, done);
        return done + 1;
      }
      shadow = flow === FLOW.SHADOW;
      if (done + 1 >= limit || code.pageOffset >= 4096) {
        this.#end(shadow ? 'next.check' : 'next', code.pageOffset, done);
        return done + 1;
      }
    }
  }

  /**
   * The micro-op that goes on at `pageOffset`. It belongs to the last instruction: DONE counts those before it.
   */
  #end(name: string, pageOffset: number, done: number): void {
    const first = this.#out.count;
    const end = new Instruction(new CodeBytes(this.#ram, 0, pageOffset, () => 0), this.#out, 0);
    end.emit(name, ZERO, ZERO, pageOffset);
    this.#out.finishInstruction(first, done, pageOffset, pageOffset);
  }

  #instruction(code: CodeBytes, mode: number, done: number): Flow {
    const i = new Instruction(code, this.#out, mode);
    const first = this.#out.count;
    let flow: Flow;
    try {
      i.prefixes();
      flow = dispatch(i);
    } catch (error) {
      if (error instanceof FetchFault && done > 0) return FLOW.NEXT;
      flow = this.#exceptional(i, first, error);
    }
    i.finish(done);
    return flow;
  }

  #exceptional(i: Instruction, first: number, error: unknown): Flow {
    this.#out.truncate(first);
    if (error instanceof UndefinedOpcode) i.emit('fault', ZERO, ZERO, VECTOR.UD);
    else if (error instanceof DeviceNotAvailable) i.emit('fault', ZERO, ZERO, VECTOR.NM);
    else throw error;
    return FLOW.END;
  }
}

function dispatch(i: Instruction): Flow {
  if (i.opcode !== 0x0f) return checked(i, oneByte[i.opcode]);
  i.opcode = i.u8();
  if (i.opcode === 0x38) {
    i.opcode = i.u8();
    return table38[i.opcode](i);
  }
  if (i.opcode === 0x3a) {
    i.opcode = i.u8();
    return table3a[i.opcode](i);
  }
  return checked(i, twoByte[i.opcode]);
}

/** Opcodes that LOCK may precede, by map; groups are narrowed by `lockable`. */
const LOCKABLE = new Set([0x86, 0x87, 0x80, 0x81, 0x83, 0xf6, 0xf7, 0xfe, 0xff]);
for (let n = 0; n < 7; n++) LOCKABLE.add(n * 8).add(n * 8 + 1);
const LOCKABLE_TWO_BYTE = new Set([0xab, 0xb3, 0xbb, 0xba, 0xb0, 0xb1, 0xc0, 0xc1, 0xc7]);

function lockable(i: Instruction, opcodes: ReadonlySet<number>): boolean {
  if (!opcodes.has(i.opcode) || i.isRegister) return false;
  const which = i.reg & 7;
  if (opcodes === LOCKABLE_TWO_BYTE) return i.opcode !== 0xba || which >= 5;
  if (i.opcode >= 0xfe) return which <= 1;
  if (i.opcode >= 0xf6) return which === 2 || which === 3;
  return i.opcode < 0x80 || i.opcode > 0x83 || which !== 7;
}

function checked(i: Instruction, handler: (i: Instruction) => Flow): Flow {
  const opcodes = handler === oneByte[i.opcode] ? LOCKABLE : LOCKABLE_TWO_BYTE;
  const flow = handler(i);
  if (i.lock && !lockable(i, opcodes)) throw new UndefinedOpcode('LOCK');
  return flow;
}
