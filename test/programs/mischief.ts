/** What makes generated programs hard to compile: changing code and translations, faults, system calls, flags. */
import type { Random } from '../vectors/random.ts';
import { type Label, little } from './assembler.ts';
import { dataOffset, REG } from './instructions.ts';
import { entryAddress, inHighHalf, translation } from './kernel.ts';
import { PLACE, VECTOR } from './places.ts';
import { type PatchPoint, type ProgramWriter, SCRATCH } from './writer.ts';

/** Opcodes of `op rm32, r32` that take each other's place. */
const OPERATIONS = [0x01, 0x09, 0x11, 0x19, 0x21, 0x29, 0x31, 0x39, 0x89];

/** An instruction that can be changed, or a change of one, perhaps of the very next. */
export function patch(w: ProgramWriter, random: Random): void {
  const kind = random.below(10);
  if (kind < 2) patchable(w, random);
  else if (kind < 4) patchNext(w, random);
  else if (w.patchPoints.length > 0) change(w, random, random.pick(w.patchPoints));
  if (kind >= 4 && random.chance(50)) patchable(w, random);
}

function patchable(w: ProgramWriter, random: Random): void {
  const label: Label = {};
  if (random.chance(50)) {
    const register = random.pick(w.dialect.free.filter((one) => one < 8));
    const at = w.asm.put(0xb8 + register, ...little(random.u32(), 4));
    label.address = at + 1;
    w.patchPoints.push({ label, bytes: 4, value: (r) => r.u32() });
  } else {
    const registers = w.dialect.free.filter((one) => one < 8);
    const at = w.asm.put(
      random.pick(OPERATIONS),
      0xc0 | (random.pick(registers) << 3) | random.pick(registers),
    );
    label.address = at;
    w.patchPoints.push({ label, bytes: 1, value: (r) => r.pick(OPERATIONS) });
  }
}

/** Changes an instruction of the same block. */
function patchNext(w: ProgramWriter, random: Random): void {
  const label: Label = {};
  change(w, random, { label, bytes: 4, value: (r) => r.u32() });
  if (random.chance(50)) w.straight(random, 2);
  const at = w.asm.put(
    0xb8 + random.pick(w.dialect.free.filter((one) => one < 8)),
    ...little(random.u32(), 4),
  );
  label.address = at + 1;
}

/** Stores to a patch point, where it is or by its other mapping. */
function change(w: ProgramWriter, random: Random, { label, bytes, value }: PatchPoint): void {
  const kind = random.below(4);
  if (kind === 0) {
    w.asm.absolute([0xb8 + REG.DI], label);
    w.load(REG.CX, bytes);
    w.put(0xb0, value(random) & 0xff);
    if (bytes === 1) w.put(0xf3, 0xaa);
    else w.put(0xab); // stosd
    return;
  }
  if (kind === 1) {
    w.asm.absolute([0xb8 + SCRATCH], label);
    w.put(
      ...(bytes === 1 ? [0xc6] : [0xc7]),
      0x80,
      ...little(PLACE.ALIAS - PLACE.CODE, 4),
      ...little(value(random), bytes),
    );
    return;
  }
  w.direct([bytes === 1 ? 0xc6 : 0xc7], 0, label, little(value(random), bytes));
}

/** Another translation for a page, or for many: by the kernel's service, or at level 0 in line. */
export function translations(w: ProgramWriter, random: Random): void {
  const which = random.below(6);
  const value = random.below(4);
  const { page, entry } = translation(which, value);
  if (!w.kernel || random.chance(30)) {
    w.load(REG.DI, which);
    w.load(REG.SI, value);
    w.load(SCRATCH, random.chance(75) ? 0 : 2);
    if (w.wide && !w.kernel && random.chance(50)) w.put(0x0f, 0x05);
    else w.put(0xcd, VECTOR.SERVICE);
  } else if (random.chance(20)) {
    w.put(0x0f, 0x20, 0xd8); // mov rax, cr3
    if (random.chance(70)) w.put(0x35, ...little(0x4000, 4)); // the other address space
    w.put(0x0f, 0x22, 0xd8);
  } else {
    for (const space of [0, 1]) {
      const address = { address: entryAddress(space, page) };
      w.direct([0x48, 0xc7], 0, address, little(entry, 4));
    }
    w.direct([0x0f, 0x01], 7, { address: page }); // invlpg
    w.put(0x48, 0xb8, ...little(inHighHalf(page), 8));
    w.put(0x0f, 0x01, 0x38); // invlpg [rax]
  }
  if (which < PLACE.FLIPPED_PAGES && random.chance(60)) touch(w, random, page + random.below(256) * 8);
}

/** Loads, stores or changes 4 bytes. */
function touch(w: ProgramWriter, random: Random, address: number): void {
  const register = random.pick(w.dialect.free.filter((one) => one < 8));
  w.direct([random.pick([0x8b, 0x89, 0x01, 0x03, 0x11])], register, { address });
}

const UNUSABLE = [PLACE.MISSING, PLACE.READ_ONLY, PLACE.SUPERVISOR, 0x3000_0000];

/** Something that faults, and whose flags and registers matter to what follows. */
export function faults(w: ProgramWriter, random: Random): void {
  w.straight(random, 2);
  const kind = random.below(10);
  if (kind < 6) touch(w, random, random.pick(UNUSABLE) + random.below(1024) * 4);
  else if (kind < 8) {
    w.put(0x31, 0xc9); // xor ecx, ecx
    w.put(0xf7, random.pick([0xf1, 0xf9])); // div or idiv
  } else if (kind === 8) w.put(...random.pick([[0x0f, 0x0b], [0xcc], [0xf1], [0xfa], [0xcd, 0x22]]));
  else if (w.wide) {
    w.put(0x48, 0xb8, ...little(random.u64() | (1n << 62n), 8));
    w.put(0x48, random.pick([0x8b, 0x89]), 0x00);
  }
  w.straight(random, 2);
}

/** Sets flags, and uses them here or in another block. */
export function flags(w: ProgramWriter, random: Random): void {
  const registers = w.dialect.free.filter((one) => one < 8);
  const modrm = (): number => 0xc0 | (random.pick(registers) << 3) | random.pick(registers);
  const width = random.pick(w.wide ? [[], [0x48], [0x66]] : [[], [0x66]]);
  w.put(...width, random.pick([0x01, 0x11, 0x19, 0x29, 0x39, 0x85, 0x21]), modrm());
  if (random.chance(30))
    w.put(
      ...random.pick([[0xfe], [0xff], [...width, 0xff]]),
      random.pick([0xc0, 0xc8]) | random.pick(registers),
    );
  const uses = random.below(3);
  for (let n = 0; n < uses; n++) {
    const condition = random.below(16);
    if (random.chance(40)) w.put(0x0f, 0x40 + condition, modrm());
    else if (random.chance(50)) w.put(0x0f, 0x90 + condition, 0xc0 | random.below(4));
    else {
      const over: Label = {};
      w.jcc(condition, over, false);
      w.straight(random, 1);
      w.asm.place(over);
    }
  }
}

export function stack(w: ProgramWriter, random: Random): void {
  const one = random.pick(w.dialect.free);
  switch (random.below(7)) {
    case 0:
      w.push(one);
      w.straight(random, 2);
      w.pop(random.pick(w.dialect.free));
      break;
    case 1:
      w.put(0x9c); // pushf
      w.pop(one);
      break;
    case 2:
      w.put(0x9c);
      w.put(0x81, 0x34, 0x24, ...little(random.u32() & 0x8d5, 4)); // xor dword [rsp], …
      w.put(0x9d);
      break;
    case 3:
      if (w.wide) {
        w.put(0xc8, 0x40, 0, random.below(3));
        w.straight(random, 2);
        w.put(0xc9);
      }
      break;
    case 4:
      w.direct([0xff], 6, { address: PLACE.DATA + dataOffset(random, 8, 8) });
      w.direct([0x8f], 0, { address: PLACE.DATA + dataOffset(random, 8, 8) });
      break;
    case 5:
      w.put(...(w.wide ? [0x48] : []), 0x83, 0xec, 0x20); // sub rsp, 0x20
      w.put(...(w.wide ? [0x48] : []), 0x89, 0x44, 0x24, 8 * random.below(3)); // mov [rsp + …], rax
      w.put(0xff, 0x04, 0x24); // inc dword [rsp]
      w.put(...(w.wide ? [0x48] : []), 0x83, 0xc4, 0x20);
      break;
    default:
      if (random.chance(20)) {
        // a few instructions one by one, each with its trap
        w.put(0x9c);
        w.put(0x81, 0x0c, 0x24, ...little(0x100, 4));
        w.put(0x9d);
      }
  }
}

/** A string instruction with its registers set up, sometimes over pages that change. */
export function strings(w: ProgramWriter, random: Random): void {
  const count = random.chance(70)
    ? random.below(24)
    : random.chance(70)
      ? random.below(600)
      : random.below(4000);
  w.point(REG.SI, dataOffset(random, 64, 4));
  w.point(REG.DI, dataOffset(random, 64, 4));
  w.load(REG.CX, count);
  const backwards = random.chance(15);
  if (backwards) w.put(0xfd);
  const width = random.pick(w.wide ? [[], [0x48], [0x66]] : [[], [0x66]]);
  const opcode = random.pick([0xa4, 0xa5, 0xaa, 0xab, 0xa6, 0xa7, 0xae, 0xaf, 0xac, 0xad]);
  const repeat = random.chance(15) ? [] : [random.pick([0xf3, 0xf3, 0xf2])];
  const prefixes = width[0] === 0x48 ? [...repeat, ...width] : [...width, ...repeat];
  w.put(...prefixes, opcode);
  if (backwards) w.put(0xfc);
}

/** LAR, LSL, and SLDT or STR, without their last byte. */
const LOOKS = [
  [0x0f, 0x02],
  [0x0f, 0x03],
  [0x0f, 0x00],
];

export function system(w: ProgramWriter, random: Random): void {
  const at = { address: PLACE.DATA + 0x5000 + random.below(16) * 16 };
  const kind = random.below(6);
  if (kind === 0) {
    w.load(SCRATCH, random.below(8));
    w.put(0x0f, 0xa2); // cpuid
  } else if (kind === 1)
    w.put(0x0f, 0x31); // rdtsc
  else if (kind === 2)
    w.direct([0x0f, 0xae], 0, at); // fxsave
  else if (kind === 3)
    w.direct([0x0f, 0xae], 1, at); // fxrstor
  else if (kind === 4) w.put(...random.pick(LOOKS), 0xc0 | random.below(4));
  else if (w.kernel) w.put(random.pick([0xfa, 0xfb]));
  else w.put(0xcd, VECTOR.SERVICE);
}
