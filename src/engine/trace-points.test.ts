/** Trace points are told in both tiers, and the guest does not feel them. */
import { createHash } from 'node:crypto';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { STATE } from './layout.ts';
import { Guest, PLACE, SETTINGS } from './testing/guest.ts';

const PROGRAM = `
  b9 e8 03 00 00          ; mov ecx, 1000
  31 c0                   ; xor eax, eax
  e8 06 00 00 00          ; again: call add
  ff c9                   ; dec ecx
  75 f7                   ; jnz again
  f4 90                   ; hlt
  01 c8                   ; add: add eax, ecx
  c3                      ; ret
`;
const ADD = PLACE.code + 0x12;
const SUM = 500_500n;

function toHalt({ cpu }: Guest): void {
  while (!cpu.halted) cpu.run(200);
}

describe.each(SETTINGS)('with $tlbEntries TLB entries, JIT threshold $jitThreshold', (settings) => {
  it('each execution is told, with the registers as they are', () => {
    const guest = new Guest(settings);
    guest.load(PLACE.code, PROGRAM);
    const seen: bigint[] = [];
    guest.onTracePoint = (number) => {
      expect(number).toBe(1);
      seen.push(guest.reg('rcx'));
      return false;
    };
    guest.longMode();
    guest.cpu.setTracePoints([0x1234, ADD]);
    toHalt(guest);
    expect(seen).toEqual(Array.from({ length: 1000 }, (_, n) => BigInt(1000 - n)));
    expect(guest.reg('rax')).toBe(SUM);
    const traced = guest.cpu.instructions;

    // Without points nothing is told, and as many instructions run.
    const plain = new Guest(settings);
    plain.load(PLACE.code, PROGRAM);
    plain.onTracePoint = () => expect.unreachable();
    plain.longMode();
    plain.cpu.setTracePoints([]);
    toHalt(plain);
    expect(plain.reg('rax')).toBe(SUM);
    expect(plain.cpu.instructions).toBe(traced);
  });

  it('is told once where the TLB does not allow what its instruction does', () => {
    const guest = new Guest(settings);
    guest.load(
      PLACE.code,
      `
      b9 e8 03 00 00 ; mov ecx, 1000
      48 ff c2       ; again: inc rdx
      8b 07          ; mov eax, [rdi], in two pages
      ff c9          ; dec ecx
      75 f7          ; jnz again
      f4             ; hlt
    `,
    );
    let told = 0;
    guest.onTracePoint = () => {
      told++;
      return false;
    };
    guest.longMode({ rdi: BigInt(PLACE.data + 4094) });
    guest.cpu.setTracePoints([PLACE.code + 8]);
    toHalt(guest);
    expect(told).toBe(1000);
  });

  it('one can send the CPU elsewhere, with other registers', () => {
    const guest = new Guest(settings);
    guest.load(PLACE.code, PROGRAM);
    let sent = 0;
    guest.onTracePoint = () => {
      // As if `add` had returned at once, having added 2.
      sent++;
      const rsp = guest.reg('rsp');
      guest.setState64(STATE.REGS, guest.reg('rax') + 2n);
      guest.setState64(STATE.RIP, guest.ram64(Number(rsp)));
      guest.setState64(STATE.REGS + 4 * 8, rsp + 8n);
      return true;
    };
    guest.longMode();
    guest.cpu.setTracePoints([ADD]);
    toHalt(guest);
    expect(sent).toBe(1000);
    expect(guest.reg('rax')).toBe(2000n);
  });

  it('they come and go while the program is compiled', () => {
    const guest = new Guest(settings);
    guest.load(PLACE.code, PROGRAM);
    let told = 0;
    guest.onTracePoint = () => {
      told++;
      return false;
    };
    guest.longMode();
    guest.cpu.run(500);
    guest.cpu.setTracePoints([ADD]);
    guest.cpu.run(500);
    const half = told;
    guest.cpu.setTracePoints([]);
    toHalt(guest);
    expect(half).toBeGreaterThan(0);
    expect(told).toBe(half);
    expect(guest.reg('rax')).toBe(SUM);
  });

  it('the code that has them is compiled as without them', () => {
    const compiled = (points: readonly number[]): Record<string, number> => {
      const guest = new Guest(settings);
      guest.load(PLACE.code, PROGRAM);
      guest.longMode();
      guest.cpu.setTracePoints(points);
      toHalt(guest);
      expect(guest.reg('rax')).toBe(SUM);
      const { regions, guestInstructions, compiledInstructions, leftForCode } = guest.cpu.jitStats;
      return { regions, guestInstructions, compiledInstructions, leftForCode };
    };
    const plain = compiled([]);
    expect(compiled([ADD])).toEqual(plain);
    expect(plain.compiledInstructions! > 0).toBe(settings.jitThreshold === 1);
  });

  it('once they are gone, what is decoded and compiled is what it is without them, byte for byte', () => {
    const plain = translationOf(settings, () => undefined);
    const gone = translationOf(settings, ({ cpu }) => {
      cpu.setTracePoints([ADD, PLACE.code]);
      cpu.setTracePoints([]);
    });
    expect(gone).toEqual(plain);
    expect(plain.modules.length > 0).toBe(settings.jitThreshold === 1);
    // Where there is nothing to be told, there is nothing to be checked either.
    const elsewhere = translationOf(settings, ({ cpu }) => cpu.setTracePoints([PLACE.data]));
    expect(elsewhere).toEqual(plain);
    const traced = translationOf(settings, ({ cpu }) => cpu.setTracePoints([ADD]));
    expect(traced.microOps).not.toEqual(plain.microOps);
    if (settings.jitThreshold === 1) expect(traced.modules).not.toEqual(plain.modules);
  });

  it('once they are gone in mid-run, what is compiled from then on is that too', () => {
    const since = (points: readonly number[]): readonly string[] => {
      let half = 0;
      const { modules } = translationOf(settings, ({ cpu }, made) => {
        cpu.setTracePoints(points);
        cpu.run(500);
        half = made.length;
        cpu.setTracePoints([]);
      });
      return modules.slice(half);
    };
    expect(since([ADD])).toEqual(since([]));
    expect(since([ADD]).length > 0).toBe(settings.jitThreshold === 1);
  });
});

/** Of the program, run to its end: its micro-ops, and the modules of WebAssembly in the order in which they were compiled. */
function translationOf(
  settings: (typeof SETTINGS)[number],
  prepare: (guest: Guest, modules: readonly string[]) => void,
): { readonly microOps: string; readonly modules: readonly string[] } {
  const guest = new Guest(settings);
  guest.load(PLACE.code, PROGRAM);
  guest.longMode();
  const modules: string[] = [];
  class Recorded extends WebAssembly.Module {
    constructor(bytes: ArrayBuffer | Uint8Array) {
      super(bytes as Uint8Array<ArrayBuffer>);
      modules.push(hashOf(new Uint8Array(bytes)));
    }
  }
  const spy = vi.spyOn(WebAssembly, 'Module').mockImplementation(Recorded);
  onTestFinished(() => spy.mockRestore());
  prepare(guest, modules);
  toHalt(guest);
  spy.mockRestore();
  expect(guest.reg('rax')).toBe(SUM);
  const { uopArena, uopArenaEnd } = guest.map;
  return { microOps: hashOf(new Uint8Array(guest.view.buffer, uopArena, uopArenaEnd - uopArena)), modules };
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
