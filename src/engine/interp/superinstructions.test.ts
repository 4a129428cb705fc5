/** Superinstructions do what their parts do one by one: the same programs in blocks of one instruction, which have none. */
import { describe, expect, it, test } from 'vitest';
import type { EntryState } from '../cpu.ts';
import { BLOCK, STATE, TLB, UOP } from '../layout.ts';
import { bytes, Guest, PLACE } from '../testing/guest.ts';
import { uopDefinitions, uopNumber } from '../uops/index.ts';
import { RCX, RSP } from '../uops/operands.ts';
import { allSuperinstructions, specialize } from './superinstructions.ts';

type Registers = NonNullable<EntryState['registers']>;

const ORDINARY = uopDefinitions().length;
/** Neither this page nor those behind it are mapped where a test says so. */
const GAP = 0x50000;
const PAGE_FAULT = 14;

function nameOf(op: number): string {
  const fused = allSuperinstructions()[op - ORDINARY];
  return fused === undefined
    ? uopDefinitions()[op]!.name
    : `[${fused.uops.map((uop) => uopDefinitions()[uop]!.name).join(' ')}]`;
}

/** What the first block that was decoded is executed with, record by record. */
function firstBlock(g: Guest): string[] {
  const header = g.map.uopArena;
  const count = g.view.getUint16(header + BLOCK.UOPS, true);
  return Array.from({ length: count }, (_, n) =>
    nameOf(g.view.getUint16(header + BLOCK.SIZE + n * UOP.SIZE + UOP.OP, true)),
  );
}

/** All that a program can have changed. */
function outcome(g: Guest): unknown {
  const states = [STATE.RIP, STATE.FLAG_RESULT, STATE.FLAG_CARRY, STATE.RFLAGS, STATE.ICOUNT, STATE.CR2];
  const registers = Array.from({ length: 16 }, (_, n) => STATE.REGS + 8 * n);
  return {
    state: [...registers, ...states].map((offset) => g.state64(offset).toString(16)),
    memory: Buffer.from(g.ram.subarray(PLACE.handlers, GAP + 8192)).toString('base64'),
  };
}

interface Setting {
  readonly registers?: Registers;
  readonly prepare?: (g: Guest) => void;
}

/** Runs a program in both ways until HLT and compares; returns the CPU that has superinstructions. */
function compare(listing: string, { registers = {}, prepare }: Setting = {}): Guest {
  const [whole, apart] = [{}, { blockInstructions: 1 }].map((options) => {
    const g = new Guest({ tlbEntries: TLB.ENTRIES, jitThreshold: 0, ...options });
    g.load(PLACE.code, listing);
    g.longMode(registers);
    prepare?.(g);
    g.untilHalt();
    return g;
  }) as [Guest, Guest];
  expect(outcome(whole)).toEqual(outcome(apart));
  return whole;
}

const unmap = (page: number) => (g: Guest) => g.mapPage(page, 0n);

describe('specialize', () => {
  const record = (name: string, fields: Readonly<Record<number, number>> = {}): Uint16Array => {
    const words = new Uint16Array(UOP.SIZE / 2).fill(STATE.ZERO);
    words[UOP.OP / 2] = uopNumber(name);
    for (const [field, value] of Object.entries(fields)) words[Number(field) / 2] = value;
    return words;
  };

  /** What the records are executed with; all else must be as it was. */
  function specialized(...records: readonly Uint16Array[]): string[] {
    const words = Uint16Array.from([...record('nop'), ...records.flatMap((words) => [...words])]);
    const before = words.slice();
    specialize(words, UOP.SIZE, records.length);
    const ops = records.map((_, n) => ((n + 1) * UOP.SIZE) / 2);
    expect(words.filter((_, at) => !ops.includes(at))).toEqual(before.filter((_, at) => !ops.includes(at)));
    return ops.map((at) => nameOf(words[at]!));
  }

  test('writes into the first record of a sequence alone', () => {
    expect(specialized(record('nop'), record('cmp32.rr'), record('jcc4'), record('jmp'))).toEqual([
      'nop',
      '[cmp32.rr jcc4]',
      'jcc4',
      'jmp',
    ]);
  });

  test('takes the longest, and goes on behind it', () => {
    const pop = record('pop64.64.r', { [UOP.A]: RCX });
    expect(specialized(...Array.from({ length: 8 }, () => pop), record('ret64.64'))).toEqual([
      `[${Array.from({ length: 6 }, () => 'pop64.64.r').join(' ')}]`,
      ...Array.from({ length: 5 }, () => 'pop64.64.r'),
      '[pop64.64.r pop64.64.r ret64.64]',
      'pop64.64.r',
      'ret64.64',
    ]);
  });

  test('leaves what its records do not fit', () => {
    const indexed = record('cmp32.mi', { [UOP.INDEX]: RCX });
    expect(specialized(indexed, record('jcc4'))).toEqual(['cmp32.mi', 'jcc4']);
    const stackPointer = record('pop64.64.r', { [UOP.A]: RSP });
    expect(specialized(stackPointer, record('ret64.64'))).toEqual(['pop64.64.r', 'ret64.64']);
    expect(specialized(record('cmp32.rr'), record('trace'), record('jcc4'))[0]).toBe('cmp32.rr');
  });
});

describe('a comparison and the branch behind it', () => {
  const forms = [
    { form: 'rr', widths: ['38 f0', '66 39 f0', '39 f0', '48 39 f0'], test: '84 85' },
    { form: 'mr', widths: ['38 33', '66 39 33', '39 33', '48 39 33'], test: '84 85' },
    { form: 'rm', widths: ['3a 03', '66 3b 03', '3b 03', '48 3b 03'], test: '' },
    { form: 'ri', widths: ['80 f8 80', '66 83 f8 80', '83 f8 80', '48 83 f8 80'], test: '' },
    { form: 'mi', widths: ['80 3b 7f', '66 83 3b 7f', '83 3b 7f', '48 83 3b 7f'], test: '' },
    {
      form: 'test ri',
      widths: ['f6 c0 81', '66 f7 c0 01 80', 'f7 c0 01 00 00 80', '48 f7 c0 01 00 00 80'],
      test: '',
    },
    {
      form: 'test mi',
      widths: ['f6 03 81', '66 f7 03 01 80', 'f7 03 01 00 00 80', '48 f7 03 01 00 00 80'],
      test: '',
    },
  ].flatMap(({ form, widths, test: opcodes }) => {
    const cases = widths.map((code, n) => ({ name: `${form} ${8 << n}`, code }));
    if (opcodes === '') return cases;
    const [byte, wide] = opcodes.split(' ') as [string, string];
    const tests = widths.map((code, n) => ({
      name: `test ${form} ${8 << n}`,
      code: n === 0 ? code.replace('38', byte) : code.replace('39', wide),
    }));
    return [...cases, ...tests];
  });
  const VALUES = [
    0n,
    1n,
    0x7fn,
    0x80n,
    0xff80n,
    0x8000n,
    0x7fff_ffffn,
    0x8000_0000n,
    0xffff_ff80n,
    1n << 63n,
    -1n,
    -128n,
  ];

  /** Branches on each condition: R8 counts where it did not, R10 mixes the flags behind it. */
  const branches = (code: string): string =>
    Array.from({ length: 16 }, (_, condition) => {
      const jump = (0x70 + condition).toString(16);
      return `${code} ${jump} 03 49 ff c0 4d 8d 04 40 9c 41 59 4d 01 ca 49 c1 c2 05`;
    }).join(' ');

  test.each(forms)('$name: all conditions, and the flags afterwards', ({ code }) => {
    const g = new Guest({ tlbEntries: TLB.ENTRIES, jitThreshold: 0 });
    const alone = new Guest({ tlbEntries: TLB.ENTRIES, jitThreshold: 0, blockInstructions: 1 });
    for (const guest of [g, alone]) guest.load(PLACE.code, `${branches(code)} f4`);
    for (const a of VALUES) {
      for (const b of VALUES) {
        for (const guest of [g, alone]) {
          guest.longMode({ rax: a, rsi: b, rbx: BigInt(PLACE.data) });
          guest.setRam64(PLACE.data, code.startsWith('3a') || code.includes('3b') ? b : a);
          guest.untilHalt();
        }
        expect(outcome(g)).toEqual(outcome(alone));
      }
    }
    expect(firstBlock(g).filter((name) => /^\[(cmp|test).* jcc/.test(name)).length).toBeGreaterThanOrEqual(2);
  });

  it('faults in its first half as the comparison alone does', () => {
    // cmp dword [rbx], 5; je; nop
    const g = compare('ff c1 83 3b 05 74 00 90 f4', { registers: { rbx: BigInt(GAP) }, prepare: unmap(GAP) });
    expect(firstBlock(g)).toContain('[cmp32.mi jcc4]');
    expect(g.frame()).toMatchObject({ vector: PAGE_FAULT, rip: BigInt(PLACE.code) + 2n });
  });

  it('ends a run at its budget, exactly behind the branch that is taken', () => {
    // again: dec ecx; test ecx, ecx; jnz again
    const g = new Guest({ tlbEntries: TLB.ENTRIES, jitThreshold: 0 });
    g.load(PLACE.code, 'ff c9 85 c9 75 fa f4');
    g.longMode({ rcx: 10n });
    g.cpu.run(4);
    expect(firstBlock(g)).toContain('[test32.rr jcc5]');
    expect([g.cpu.instructions, g.reg('rcx'), g.rip]).toEqual([6, 8n, BigInt(PLACE.code)]);
    g.untilHalt();
    expect([g.cpu.instructions, g.reg('rcx')]).toEqual([31, 0n]);
  });

  it('traps between its halves when it is stepped through', () => {
    const g = new Guest({ tlbEntries: TLB.ENTRIES, jitThreshold: 0 });
    // pushf; or dword [rsp], 0x100; popf; test ecx, ecx; je; hlt
    g.load(PLACE.code, '9c 81 0c 24 00 01 00 00 9d 85 c9 74 00 f4');
    g.longMode();
    g.untilHalt();
    expect(g.frame()).toMatchObject({ vector: 1, rip: BigInt(PLACE.code) + 11n });
  });
});

describe('pushes and pops in a row', () => {
  const PUSHES = '50 51 53 55 56 57'; // rax rcx rbx rbp rsi rdi
  const POPS = '5f 5e 5d 5b 59 58';
  const registers: Registers = { rax: 1n, rcx: 2n, rbx: 3n, rbp: 4n, rsi: 5n, rdi: 6n };

  it.each([2, 3, 4, 5, 6])('%i are moved at once', (count) => {
    const bytesOf = (listing: string): string => listing.split(' ').slice(0, count).join(' ');
    const g = compare(`${bytesOf(PUSHES)} ${bytesOf(POPS)} f4`, { registers });
    const names = firstBlock(g);
    expect(names[0]!.split(' ')).toHaveLength(count);
    expect(names[count]!.split(' ')).toHaveLength(count);
  });

  it('return to where was called from', () => {
    const g = compare('e8 01 00 00 00 f4 53 55 31 db 31 ed 5d 5b c3', { registers });
    expect([g.reg('rbx'), g.reg('rbp'), g.rip]).toEqual([3n, 4n, BigInt(PLACE.code) + 6n]);
  });

  it('are one by one where they cross into another page, up to the one that faults', () => {
    for (let inPage = 0; inPage <= 6; inPage++) {
      const rsp = BigInt(GAP + 4096 + 8 * inPage);
      const pushing = compare(`${PUSHES} f4`, {
        registers: { ...registers, rsp },
        prepare: (g) => {
          unmap(GAP)(g);
          // The handler has a stack of its own.
          g.setRam64(PLACE.tss + 36, BigInt(PLACE.stack));
          g.setRam64(PLACE.idt + PAGE_FAULT * 16, g.ram64(PLACE.idt + PAGE_FAULT * 16) | (1n << 32n));
        },
      });
      if (inPage === 6) continue;
      expect(pushing.frame()).toMatchObject({
        vector: PAGE_FAULT,
        rip: BigInt(PLACE.code + inPage),
        rsp: BigInt(GAP + 4096),
      });
    }
    for (let inPage = 0; inPage < 6; inPage++) {
      const popping = compare(`${POPS} f4`, {
        registers: { ...registers, rsp: BigInt(GAP - 8 * inPage) },
        prepare: (g) => {
          unmap(GAP)(g);
          g.setRam64(PLACE.tss + 36, BigInt(PLACE.stack));
          g.setRam64(PLACE.idt + PAGE_FAULT * 16, g.ram64(PLACE.idt + PAGE_FAULT * 16) | (1n << 32n));
        },
      });
      expect(popping.frame()).toMatchObject({ rip: BigInt(PLACE.code + inPage), rsp: BigInt(GAP) });
    }
  });

  it('take RSP itself as it is at that moment', () => {
    compare('50 54 51 5c 58 54 5b 5c f4', { registers });
    compare('54 54 5b 59 f4', { registers });
  });

  it('write over what follows them in the same block', () => {
    // Six pushes put HLTs over the NOPs behind them.
    const code = PLACE.code;
    const g = compare(`${PUSHES} ${'90 '.repeat(58)} 31 c0 f4`, {
      registers: Object.fromEntries(Object.keys(registers).map((name) => [name, 0xf4f4_f4f4_f4f4_f4f4n])),
      prepare: (guest) => guest.setState64(STATE.REGS + 4 * 8, BigInt(code + 64)),
    });
    expect(g.rip).toBe(BigInt(code) + 17n);
  });
});

describe('code that changes within a superinstruction', () => {
  // test: mov [rbx], al into the instruction behind it, which is the second half of a pair.
  it.each([
    ['the second half', '88 03 39 c8 74 01 f4 f4', 4],
    ['what follows', '39 c8 74 00 88 03 b2 01 f4', 7],
  ])('%s', (_what, listing, offset) => {
    compare(listing, { registers: { rax: 0x75n, rcx: 0x75n, rbx: BigInt(PLACE.code + offset) } });
  });

  it('is seen when either half was written from elsewhere', () => {
    for (const offset of [0, 2]) {
      // call f; mov [rbx], al; call f; hlt; f: cmp ecx, eax; je +1; hlt...; ret
      const f = 0x13;
      const listing = 'e8 0e 00 00 00 88 03 e8 07 00 00 00 f4 90 90 90 90 90 90 39 c1 74 03 49 ff c0 c3';
      expect(bytes(listing)[f]).toBe(0x39);
      const g = compare(listing, {
        registers: {
          rax: offset === 0 ? 0x31n : 0x75n,
          rcx: offset === 0 ? 0x31n : 0x75n,
          r8: 0n,
          rbx: BigInt(PLACE.code + f + offset),
        },
      });
      expect(g.reg('r8')).toBe(offset === 0 ? 0n : 1n);
    }
  });
});

it('memory operands without an index are at base and displacement', () => {
  // mov rax, [rbx+8]; mov [rbx-16], rax; mov ecx, [rbx+rcx*4]; lea rdx, [rbx-1]; movzx esi, byte [rip]
  const g = compare('48 8b 43 08 48 89 43 f0 8b 0c 8b 48 8d 53 ff 0f b6 35 00 00 00 00 f4', {
    registers: { rbx: BigInt(PLACE.data + 0x100), rcx: 2n },
    prepare: (guest) => guest.setRam64(PLACE.data + 0x108, 0x1122_3344_5566_7788n),
  });
  expect(firstBlock(g).filter((name) => name === 'mov32.rm')).toHaveLength(1);
  expect(g.reg('rax')).toBe(0x1122_3344_5566_7788n);
  expect([g.reg('rcx'), g.reg('rdx'), g.reg('rsi')]).toEqual([
    0x5566_7788n,
    BigInt(PLACE.data + 0xff),
    0xf4n,
  ]);
});
