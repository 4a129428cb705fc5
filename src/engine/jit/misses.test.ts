/** What the TLB does not allow is left to the interpreter, or where that happens often to the core. */
import { describe, expect, it } from 'vitest';
import { MISSES } from '../layout.ts';
import { Guest, PLACE, SETTINGS } from '../testing/guest.ts';

const ROUNDS = 3 * MISSES.OFTEN;
/** Slices, and what was compiled but not yet installed. */
const SLACK = 1000;
const LIMIT = 20 * ROUNDS;

/** Two bytes are in one page and two in the next, which no TLB entry has. */
const CROSSING = PLACE.data + 4096 - 2;

function loop(body: string, bytes: number): string {
  return `
    48 ff c2        ; again: inc rdx
    ${body}
    ff c9           ; dec ecx
    75 ${(0x100 - 7 - bytes).toString(16)} ; jnz again
    f4              ; hlt
  `;
}

describe.each(SETTINGS)('misses with $tlbEntries TLB entries, JIT threshold $jitThreshold', (settings) => {
  /** @param sites instructions that miss until they are known to */
  function run(listing: string, registers: Record<string, bigint>, sites = 1): Guest {
    const g = new Guest(settings);
    g.load(PLACE.code, listing);
    g.setRam64(PLACE.data + 4096 - 8, 0x0001_0002_0304_0506n);
    g.setRam64(PLACE.data + 4096, 0x0000_0000_0000_0003n);
    g.longMode({ rcx: BigInt(ROUNDS), rdx: 0n, ...registers });
    const { cpu } = g;
    expect(g.untilHalt(LIMIT)).toBe(cpu.instructions);
    expect(g.reg('rdx')).toBe(BigInt(ROUNDS));
    const { leftForMiss } = cpu.jitStats;
    if (settings.jitThreshold === 0) expect(leftForMiss).toBe(0);
    else {
      expect(leftForMiss).toBeGreaterThan(MISSES.OFTEN / 2);
      expect(leftForMiss).toBeLessThan(sites * MISSES.OFTEN + SLACK);
    }
    return g;
  }

  it('of loads', () => {
    const g = run(loop('8b 07 48 01 c3 ; mov eax, [rdi]; add rbx, rax', 5), {
      rdi: BigInt(CROSSING),
      rbx: 0n,
    });
    expect(g.reg('rbx')).toBe(BigInt(ROUNDS) * 0x0003_0001n);
  });

  it('of stores', () => {
    const g = run(loop('89 17 ; mov [rdi], edx', 2), { rdi: BigInt(CROSSING) });
    const value = BigInt(ROUNDS);
    expect(g.ram64(PLACE.data + 4096 - 8) >> 48n).toBe(value & 0xffffn);
    expect(g.ram64(PLACE.data + 4096)).toBe(value >> 16n);
  });

  it('of instructions that load and store', () => {
    const g = run(loop('ff 07 ; inc dword [rdi]', 2), { rdi: BigInt(CROSSING) });
    const value = 0x0003_0001n + BigInt(ROUNDS);
    expect(g.ram64(PLACE.data + 4096 - 8) >> 48n).toBe(value & 0xffffn);
    expect(g.ram64(PLACE.data + 4096)).toBe(value >> 16n);
  });

  it('of pushes in a row', () => {
    const pushes = loop('48 89 fc 52 51 53 ; mov rsp, rdi; push rdx; push rcx; push rbx', 6);
    const rdi = BigInt(PLACE.data + 4096 + 12);
    // The first asks the core then, and the others are in a row still.
    const g = run(pushes, { rdi, rbx: 0x1122_3344_5566_7788n }, 2);
    expect(g.ram64(PLACE.data + 4096 - 12)).toBe(0x1122_3344_5566_7788n);
    expect(g.ram64(PLACE.data + 4096 - 4)).toBe(1n);
    expect(g.ram64(PLACE.data + 4096 + 4)).toBe(BigInt(ROUNDS));
  });
});
