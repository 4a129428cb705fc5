/** Control flow of generated programs: branches, loops, calls and indirect jumps. */
import { Random } from '../vectors/random.ts';
import type { Label } from './assembler.ts';
import { REG } from './instructions.ts';
import { faults, flags, patch, stack, strings, system, translations } from './mischief.ts';
import { PLACE } from './places.ts';
import { type ProgramWriter, SCRATCH } from './writer.ts';

/** Code that may still be written: what is behind is for functions' ends and tables. */
const ROOM = 0x2000;
const DEPTH = 4;

/** Writes one statement after another; each has random numbers of its own, so leaving one out leaves the others. */
export class StatementWriter {
  readonly w: ProgramWriter;
  readonly #seed: number;
  readonly #omitted: ReadonlySet<string>;
  /** Names of the statements that were written, in order. */
  readonly names: string[] = [];
  /** Index of the present function. */
  #self = 0;

  constructor(w: ProgramWriter, seed: number, omitted: ReadonlySet<string>) {
    this.w = w;
    this.#seed = seed;
    this.#omitted = omitted;
  }

  function(index: number): void {
    this.#self = index;
    const { w } = this;
    const name = `f${index}`;
    const random = new Random(this.#seed, name);
    w.asm.place(w.functions[index]!);
    this.#sequence(name, 2 + random.below(5), 0);
    const next = w.functions[index + 1];
    if (next !== undefined && random.chance(10)) w.jump(next);
    else if (random.chance(10) && w.wide) w.put(0xc2, 0, 0);
    else w.put(0xc3);
  }

  #sequence(name: string, count: number, depth: number): void {
    for (let n = 0; n < count; n++) this.#statement(`${name}.${n}`, depth);
  }

  #statement(name: string, depth: number): void {
    if (this.#omitted.has(name) || this.w.asm.room < ROOM) return;
    this.names.push(name);
    const random = new Random(this.#seed, name);
    const nested = depth < DEPTH;
    const kind = random.below(100);
    if (kind < 26 || (!nested && kind < 66)) this.w.straight(random, 8);
    else if (kind < 38) this.#choice(name, random, depth);
    else if (kind < 50) this.#loop(name, random, depth);
    else if (kind < 58) this.#call(random);
    else if (kind < 63) this.#switch(name, random, depth);
    else if (kind < 66) this.#recursion(name, random, depth);
    else if (kind < 73) flags(this.w, random);
    else if (kind < 79) stack(this.w, random);
    else if (kind < 84) strings(this.w, random);
    else if (kind < 90) patch(this.w, random);
    else if (kind < 95) translations(this.w, random);
    else if (kind < 98) faults(this.w, random);
    else system(this.w, random);
  }

  /** if … else … */
  #choice(name: string, random: Random, depth: number): void {
    const { w } = this;
    const otherwise: Label = {};
    const end: Label = {};
    if (random.chance(60)) w.straight(random, 2);
    const near = random.chance(70);
    const at = w.asm.address;
    w.jcc(random.below(16), otherwise, near);
    if (random.chance(30)) patchCondition(w, at, near);
    if (near) this.#sequence(`${name}.t`, 1 + random.below(2), depth + 1);
    else w.straight(random, 3);
    if (random.chance(60)) {
      w.jump(end);
      w.asm.place(otherwise);
      this.#sequence(`${name}.e`, 1 + random.below(2), depth + 1);
    } else w.asm.place(otherwise);
    w.asm.place(end);
  }

  /** Counts in a register, in memory, or with LOOP; mostly a few times. */
  #loop(name: string, random: Random, depth: number): void {
    const { w } = this;
    const times = random.chance(85) ? 2 + random.below(8) : 20 + random.below(150);
    const counter = w.dialect.counters[depth % 2];
    const kind = counter === undefined ? 1 : random.below(3);
    const body = (): void => this.#sequence(name, 1 + random.below(3), depth + 1);
    if (kind === 0 && counter !== undefined) this.#registerLoop(counter, times, body);
    else if (random.chance(25)) this.#loopInstruction(random, times);
    else this.#memoryLoop(times, body);
  }

  #registerLoop(counter: number, times: number, body: () => void): void {
    const { w } = this;
    w.push(counter);
    w.load(counter, times);
    const again = w.asm.here();
    body();
    w.put(0x41, 0xff, 0xc8 | (counter & 7)); // dec
    w.jcc(5, again, true);
    w.pop(counter);
  }

  #memoryLoop(times: number, body: () => void): void {
    const { w } = this;
    const slot = w.slot();
    w.direct([0xc7], 0, slot, [times, 0, 0, 0]);
    const again = w.asm.here();
    body();
    w.direct([0xff], 1, slot); // dec dword
    w.jcc(15, again, true);
  }

  #loopInstruction(random: Random, times: number): void {
    const { w } = this;
    w.load(REG.CX, times);
    const again = w.asm.here();
    w.push(REG.CX);
    w.straight(random, 3);
    w.pop(REG.CX);
    w.asm.branch([0xe0 + random.below(3)], again, 1);
  }

  /** A function behind this one, directly, by a register, from the stack, or as a subroutine of one block. */
  #call(random: Random): void {
    const { w } = this;
    const behind = w.functions.slice(this.#self + 1);
    const kind = random.below(10);
    if (behind.length === 0 || kind === 0) {
      const here: Label = {};
      w.call(here);
      w.asm.place(here);
      w.pop(random.pick(w.dialect.free));
      return;
    }
    const target = random.pick(behind);
    if (kind < 5) w.call(target);
    else if (kind < 7 && w.wide) {
      w.asm.branch([0x48, 0x8d, 0x05], target, 4); // lea rax, [rip + target]
      w.put(0xff, 0xd0); // call rax
    } else if (kind < 9) {
      w.asm.absolute([0xb8 + SCRATCH], target);
      w.put(0xff, 0xd0);
    } else {
      const back: Label = {};
      w.asm.absolute([0x68], back); // push: where the function returns to
      w.asm.absolute([0x68], target);
      w.put(0xc3);
      w.asm.place(back);
    }
  }

  #switch(name: string, random: Random, depth: number): void {
    const { w } = this;
    const cases = Array.from({ length: random.pick([2, 4, 8]) }, (): Label => ({}));
    const end: Label = {};
    w.put(0x83, 0xe1, cases.length - 1); // and ecx, …
    w.jumpThrough(REG.CX, cases);
    cases.forEach((label, n) => {
      w.asm.place(label);
      if (random.chance(50)) w.straight(random, 3);
      else this.#sequence(`${name}.${n}`, 1, depth + 1);
      if (random.chance(80)) w.jump(end);
    });
    w.asm.place(end);
  }

  /** A subroutine in the middle of the function that calls itself. */
  #recursion(name: string, random: Random, depth: number): void {
    const { w } = this;
    const [start, inner, leave]: Label[] = [{}, {}, {}];
    const slot = w.slot();
    w.direct([0xc7], 0, slot, [2 + random.below(12), 0, 0, 0]);
    w.call(inner!);
    w.jump(start!);
    w.asm.place(inner!);
    this.#sequence(name, 1, Math.max(depth + 1, DEPTH));
    w.direct([0xff], 1, slot);
    w.jcc(14, leave!, true);
    w.call(inner!);
    w.straight(random, 2);
    w.asm.place(leave!);
    w.put(0xc3);
    w.asm.place(start!);
  }
}

/** Other code may change the branch's condition. */
function patchCondition(w: ProgramWriter, at: number, near: boolean): void {
  const opcode = near ? 0x80 : 0x70;
  w.patchPoints.push({
    label: { address: near ? at + 1 : at },
    bytes: 1,
    value: (random) => opcode + random.below(16),
  });
}

/** Fills the registers and goes round the first function; never returns. */
export function writeEntry(w: ProgramWriter, rounds: number): void {
  const { base } = w.dialect;
  const counter = w.slot();
  const middle = { address: PLACE.DATA + PLACE.DATA_BYTES / 2 };
  if (w.wide) w.asm.branch([0x48 | ((base >> 3) << 2), 0x8d, 0x05 | ((base & 7) << 3)], middle, 4);
  else w.load(base, middle.address);
  w.direct([0xc7], 0, counter, [rounds, 0, 0, 0]);
  const again = w.asm.here();
  w.put(0xfc); // cld
  w.call(w.functions[0]!);
  w.direct([0xff], 1, counter);
  w.jcc(15, again, true);
  w.put(0xcd, 0x81);
}
