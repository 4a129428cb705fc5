/**
 * A throwaway copy of a machine, see `Replica`: a CPU with a little memory and page tables of its own. Where it touches a page that it
 * does not have, its handler of page faults halts, the page is copied from the machine's RAM, and it goes on.
 */
import { type Cpu, GPR, type GprName } from './cpu.ts';
import { type MachineInspection, type Replica, ReplicaError, type ReplicaStart } from './inspection.ts';
import { CPU, EXIT, memoryMap, STATE } from './layout.ts';
import { createCpu } from './vcpu.ts';

const PAGE = 4096;
const PAGE_MASK = 4095n;
/** For copies of pages and for page tables. */
const RAM_BYTES = 16 << 20;
const ARENA_BYTES = 4 << 20;
const WASM_PAGE = 65_536;
/** From one `begin` to the next: about a second. */
const INSTRUCTIONS_MAX = 30_000_000;
const SLICE_INSTRUCTIONS = 1_000_000;

/** Physical addresses of pages. The stack, for exceptions, is below its address. */
const AT = {
  GDT: 0x1000,
  IDT: 0x2000,
  TSS: 0x3000,
  HANDLERS: 0x4000,
  STACK: 0x6000,
  SCRATCH: 0x6000,
  TABLES: 0x7000,
} as const;
/** Where they are, up to the tables: a hole in the address space of every Linux (Documentation/arch/x86/x86_64/mm.rst). */
const HOLE = 0xffff_ffff_0000_0000n;
const USER = 0x1000_0000n;
const USER_PAGES = 16;
const VECTORS = 32;
const PAGE_FAULT = 14;
const HANDLER_BYTES = 16;
const HLT = 0xf4;
/** hlt; add $8, %rsp; iretq */
const PAGE_FAULT_HANDLER = [HLT, 0x48, 0x83, 0xc4, 0x08, 0x48, 0xcf];
const RETURN_AT = AT.HANDLERS + VECTORS * HANDLER_BYTES;
/** A HLT for functions to return to. */
const RETURN = HOLE + BigInt(RETURN_AT);
const CODE_SELECTOR = 0x10;
/** Selectors as Linux has them: 0x10 for code, 0x18 for data. */
const GDT = [0n, 0n, 0x00af_9b00_0000_ffffn, 0x00cf_9300_0000_ffffn];
/** An interrupt gate on the first stack of the TSS. */
const GATE = 0x8e01;
const TSS_LIMIT = 0x67;
const TSS_STACK = 0x24;
const GS = 5;
/** PAE, PGE, OSFXSR, OSXMMEXCPT, FSGSBASE */
const CR4 = 0x1_06a0n;
const FRAME = 0x000f_ffff_ffff_f000n;
const KERNEL_PAGE = 3n;
const USER_PAGE = 7n;
/** Of the indices of the tables above the last one. */
const SHIFTS = [39n, 30n, 21n] as const;
const ARGUMENTS: readonly GprName[] = ['rdi', 'rsi', 'rdx', 'rcx', 'r8', 'r9'];

const u64 = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, value));
  return bytes;
};

export class CpuReplica implements Replica {
  readonly scratch = { kernel: HOLE + BigInt(AT.SCRATCH), user: USER, userBytes: USER_PAGES * PAGE };
  readonly #machine: MachineInspection;
  readonly #cpu: Cpu;
  readonly #ram: Buffer;
  readonly #state: DataView;
  #start: ReplicaStart | undefined;
  /** The copy of each page of the machine's RAM, by its offset there. */
  readonly #copies = new Map<number, number>();
  /** All from here on is zero. */
  #free = 0;
  #instructionsMax = 0;

  /** @param tlbEntries as the machine's own CPU has them, whose compiled interpreter it shares then */
  constructor(machine: MachineInspection, tlbEntries?: number) {
    this.#machine = machine;
    const map = memoryMap(RAM_BYTES, ARENA_BYTES);
    const pages = map.end / WASM_PAGE;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    // INVARIANT: Buffer.from takes shared memory; its type does not say so.
    this.#ram = Buffer.from(memory.buffer as unknown as ArrayBuffer, map.ram, RAM_BYTES);
    this.#state = new DataView(memory.buffer, CPU, STATE.SIZE);
    const device = (): never => {
      throw new ReplicaError('a device would be asked');
    };
    const hooks = {
      ...{ readMmio: device, writeMmio: device, readPort: device, writePort: device },
      readMsr: () => undefined,
      writeMsr: () => false,
      tscNow: () => Number(machine.tsc),
    };
    this.#cpu = createCpu(memory, map, hooks, { tlbEntries, jitThreshold: 0 });
  }

  begin(start: ReplicaStart): void {
    this.#start = start;
    this.#copies.clear();
    this.#ram.fill(0, 0, this.#free);
    this.#free = AT.TABLES + PAGE;
    this.#layOut();
    this.#cpu.reset({
      ...{ mode: 'long64', rip: RETURN, cr3: BigInt(AT.TABLES) },
      gdt: { base: HOLE + BigInt(AT.GDT), limit: GDT.length * 8 - 1 },
    });
    this.#state.setBigUint64(STATE.CR4, CR4, true);
    this.#state.setBigUint64(STATE.IDTR_BASE, HOLE + BigInt(AT.IDT), true);
    this.#state.setUint32(STATE.IDTR_LIMIT, VECTORS * 16 - 1, true);
    this.#state.setBigUint64(STATE.TR_BASE, HOLE + BigInt(AT.TSS), true);
    this.#state.setUint32(STATE.TR_LIMIT, TSS_LIMIT, true);
    this.#state.setBigUint64(STATE.SEG_BASE + GS * 8, start.gsBase, true);
    for (const address of start.standIns.keys()) this.write(address, Uint8Array.of(HLT));
    this.#instructionsMax = this.#cpu.instructions + INSTRUCTIONS_MAX;
  }

  call(address: bigint, args: readonly bigint[], stack: bigint): bigint {
    const frame = (stack & ~15n) - 8n;
    this.write(frame, u64(RETURN));
    for (const [n, name] of ARGUMENTS.entries()) this.#setRegister(name, args[n] ?? 0n);
    this.#setRegister('rsp', frame);
    this.#rip = address;
    while (this.#cpu.instructions < this.#instructionsMax) {
      const reason = this.#run();
      if (reason === EXIT.BUDGET) continue;
      if (reason !== EXIT.HALT) throw new ReplicaError('the CPU shuts down');
      this.#state.setUint32(STATE.HALTED, 0, true);
      const halt = this.#rip - 1n;
      if (halt === RETURN) return this.#register('rax');
      this.#handle(halt);
    }
    throw new ReplicaError('it does not come to its end');
  }

  read(linear: bigint, length: number): Buffer {
    const out = Buffer.alloc(length);
    this.#each(linear, length, (physical, done, bytes) => {
      this.#ram.copy(out, done, physical, physical + bytes);
    });
    return out;
  }

  write(linear: bigint, bytes: Uint8Array): void {
    this.#each(linear, bytes.length, (physical, done, length) => {
      this.#ram.set(bytes.subarray(done, done + length), physical);
      this.#cpu.invalidate(physical, length);
    });
  }

  #run(): number {
    try {
      return this.#cpu.run(SLICE_INSTRUCTIONS);
    } catch (error) {
      // A hostile kernel's code goes where it likes.
      if (error instanceof ReplicaError || !(error instanceof Error)) throw error;
      throw new ReplicaError(error.message.split('\n')[0], { cause: error });
    }
  }

  /** @param halt where the HLT is: of a handler, or of a function with a stand-in */
  #handle(halt: bigint): void {
    const vector = (Number(halt - HOLE) - AT.HANDLERS) / HANDLER_BYTES;
    if (vector === PAGE_FAULT) {
      this.#fetch(this.#state.getBigUint64(STATE.CR2, true));
      return;
    }
    if (vector >= 0 && vector < VECTORS) throw new ReplicaError(`exception ${vector} is raised`);
    const standIn = this.#start?.standIns.get(halt);
    if (standIn === undefined) throw new ReplicaError('the CPU is halted');
    const rsp = this.#register('rsp');
    this.#setRegister('rax', standIn(this.#register('rdi')));
    this.#setRegister('rsp', rsp + 8n);
    this.#rip = this.read(rsp, 8).readBigUInt64LE();
  }

  /** Copies the page that a linear address is in, or maps the copy that there is. */
  #fetch(linear: bigint): void {
    const offset = this.#start?.translate(linear & ~PAGE_MASK);
    if (offset === undefined) throw new ReplicaError(`nothing is mapped at 0x${linear.toString(16)}`);
    let copy = this.#copies.get(offset);
    if (copy === undefined) {
      copy = this.#newPage();
      this.#ram.set(this.#machine.ram.subarray(offset, offset + PAGE), copy);
      this.#copies.set(offset, copy);
    }
    this.#map(linear, copy, KERNEL_PAGE);
  }

  /** Calls `use` for each part of a range that is within one page. */
  #each(linear: bigint, length: number, use: (physical: number, done: number, bytes: number) => void): void {
    for (let done = 0; done < length; ) {
      const at = BigInt.asUintN(64, linear + BigInt(done));
      const bytes = Math.min(length - done, PAGE - Number(at & PAGE_MASK));
      const entry = this.#entryOf(at);
      if (this.#ram.readBigUInt64LE(entry) === 0n) this.#fetch(at);
      use(Number((this.#ram.readBigUInt64LE(entry) & FRAME) | (at & PAGE_MASK)), done, bytes);
      done += bytes;
    }
  }

  #newPage(): number {
    const page = this.#free;
    if (page + PAGE > RAM_BYTES) throw new ReplicaError('it needs too much memory');
    this.#free += PAGE;
    return page;
  }

  /** Physical address of the entry of the last table for a linear address. */
  #entryOf(linear: bigint): number {
    let table: number = AT.TABLES;
    for (const shift of SHIFTS) {
      const at = table + Number((linear >> shift) & 511n) * 8;
      const entry = this.#ram.readBigUInt64LE(at);
      table = entry === 0n ? this.#newPage() : Number(entry & FRAME);
      if (entry === 0n) this.#ram.writeBigUInt64LE(BigInt(table) | USER_PAGE, at);
    }
    return table + Number((linear >> 12n) & 511n) * 8;
  }

  #map(linear: bigint, physical: number, rights: bigint): void {
    this.#ram.writeBigUInt64LE(BigInt(physical) | rights, this.#entryOf(linear));
  }

  #layOut(): void {
    const ram = this.#ram;
    for (const [n, descriptor] of GDT.entries()) ram.writeBigUInt64LE(descriptor, AT.GDT + n * 8);
    ram.writeBigUInt64LE(HOLE + BigInt(AT.STACK), AT.TSS + TSS_STACK);
    for (let vector = 0; vector < VECTORS; vector++) {
      const handler = AT.HANDLERS + vector * HANDLER_BYTES;
      ram.set(vector === PAGE_FAULT ? PAGE_FAULT_HANDLER : [HLT], handler);
      const gate = AT.IDT + vector * 16;
      ram.writeUInt16LE(handler, gate);
      ram.writeUInt16LE(CODE_SELECTOR, gate + 2);
      ram.writeUInt16LE(GATE, gate + 4);
      ram.writeUInt16LE(Number((HOLE >> 16n) & 0xffffn), gate + 6);
      ram.writeUInt32LE(Number(HOLE >> 32n), gate + 8);
    }
    ram.writeUInt8(HLT, RETURN_AT);
    for (let at = 0; at < AT.TABLES; at += PAGE) this.#map(HOLE + BigInt(at), at, KERNEL_PAGE);
    for (let n = 0; n < USER_PAGES; n++) this.#map(USER + BigInt(n * PAGE), this.#newPage(), USER_PAGE);
  }

  #register(name: GprName): bigint {
    return this.#state.getBigUint64(STATE.REGS + GPR.indexOf(name) * 8, true);
  }
  #setRegister(name: GprName, value: bigint): void {
    this.#state.setBigUint64(STATE.REGS + GPR.indexOf(name) * 8, BigInt.asUintN(64, value), true);
  }
  get #rip(): bigint {
    return this.#state.getBigUint64(STATE.RIP, true);
  }
  set #rip(value: bigint) {
    this.#state.setBigUint64(STATE.RIP, BigInt.asUintN(64, value), true);
  }
}
