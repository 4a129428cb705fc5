/** A generated program: machine code for the bottom of an address space, and the state that it starts from. */
import { Random } from '../vectors/random.ts';
import { DIALECTS } from './instructions.ts';
import { CODE_VERSIONS, PLACE } from './places.ts';
import { StatementWriter, writeEntry } from './statements.ts';
import { ProgramWriter } from './writer.ts';

/** Where and how a program runs. */
export const KINDS = {
  'user, 64-bit': { bits: 64, kernel: false, high: false },
  'kernel, 64-bit': { bits: 64, kernel: true, high: false },
  'kernel, 64-bit, high half': { bits: 64, kernel: true, high: true },
  'user, 32-bit': { bits: 32, kernel: false, high: false },
} as const;
export type Kind = keyof typeof KINDS;
export const KIND_NAMES = Object.keys(KINDS) as readonly Kind[];

export interface Program {
  readonly seed: number;
  readonly kind: Kind;
  /** All of CODE; behind it comes the last page's other version. */
  readonly code: Uint8Array;
  readonly otherCode: Uint8Array;
  readonly lengths: Uint8Array;
  readonly data: Uint8Array;
  readonly registers: readonly bigint[];
  readonly xmm: Uint8Array;
  /** Names of the statements, in order; see `generate`. */
  readonly statements: readonly string[];
}

/** @param omitted names of statements to leave out; the others stay as they are */
export function generate(seed: number, omitted: ReadonlySet<string> = new Set()): Program {
  const random = new Random(seed, 'program');
  const kind = random.chance(45) ? KIND_NAMES[0]! : random.pick(KIND_NAMES);
  const { bits, kernel } = KINDS[kind];
  const functions = 3 + random.below(8);
  const w = new ProgramWriter(DIALECTS[bits], kernel, functions);
  const statements = new StatementWriter(w, seed, omitted);
  writeEntry(w, 2 + random.below(20));
  for (let n = 0; n < functions; n++) {
    place(w, random, n);
    statements.function(n);
  }
  w.finish();
  return {
    seed,
    kind,
    code: w.asm.code,
    otherCode: otherVersion(w, random),
    lengths: w.asm.lengths,
    data: fill(random, PLACE.STACK - PLACE.DATA),
    registers: Array.from({ length: 16 }, () => random.integer()),
    xmm: fill(random, 256),
    statements: statements.names,
  };
}

/** Functions begin anywhere: next to each other, shortly before a page's end, or in the page with two versions. */
function place(w: ProgramWriter, random: Random, index: number): void {
  const { address } = w.asm;
  const behind = address + random.below(64);
  const end = ((address >> 12) + 1) * 4096;
  const atEnd = end - random.below(24);
  const enough = w.asm.room > 0x6000;
  if (enough && random.chance(30) && atEnd > address) w.asm.moveTo(atEnd);
  else if (index > 1 && address < CODE_VERSIONS && random.chance(15) && w.asm.room > 0x3000)
    w.asm.moveTo(CODE_VERSIONS - 0x1800);
  else w.asm.moveTo(Math.min(behind, PLACE.CODE + PLACE.CODE_BYTES - 16));
}

/** The last page with other contents at its patch points. */
function otherVersion(w: ProgramWriter, random: Random): Uint8Array {
  const offset = CODE_VERSIONS - PLACE.CODE;
  const page = w.asm.code.slice(offset);
  for (const { label, bytes, value } of w.patchPoints) {
    const at = (label.address ?? 0) - CODE_VERSIONS;
    if (at < 0 || at + bytes > page.length) continue;
    const content = value(random);
    for (let n = 0; n < bytes; n++) page[at + n] = (content >> (n * 8)) & 0xff;
  }
  return page;
}

function fill(random: Random, bytes: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(bytes));
  for (let at = 0; at < bytes; at += 8) {
    view.setBigUint64(at, random.chance(25) ? random.float64() : random.integer(), true);
  }
  return new Uint8Array(view.buffer);
}
