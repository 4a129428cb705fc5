/** Registers pushed and popped one after another, wherever the stack is. */
import { describe, expect, it } from 'vitest';
import { STATE } from '../layout.ts';
import { Guest, PLACE, PTE, SETTINGS } from '../testing/guest.ts';

const PAGE_FAULT = 14;
/** The page below the stack's is elsewhere in RAM, so that bytes that run on are missed. */
const BELOW = PLACE.stack - 4096;
const BELOW_IN_RAM = 0x100000;
const FAULT_STACK = 0x50000;
/** Offset in the TSS of the stack that a gate can name. */
const IST1 = 0x24;
const IST1_BIT = 1n << 32n;

describe.each(SETTINGS)('runs with $tlbEntries TLB entries, JIT threshold $jitThreshold', (settings) => {
  function guest(listing: string, registers: Record<string, bigint>): Guest {
    const g = new Guest(settings);
    g.load(PLACE.code, listing);
    g.longMode(registers);
    g.mapPage(BELOW, BigInt(BELOW_IN_RAM) | PTE.P | PTE.W);
    return g;
  }

  it('at every distance from the end of a page, aligned or not', () => {
    const first = PLACE.stack + 64;
    const rounds = 128;
    const g = guest(
      `
      48 89 fc       ; again: mov rsp, rdi
      57             ; push rdi
      51             ; push rcx
      53             ; push rbx
      41 50          ; push r8
      5d             ; pop rbp        (r8)
      41 5a          ; pop r10        (rbx)
      41 5b          ; pop r11        (rcx)
      41 5c          ; pop r12        (rdi)
      49 01 e8       ; add r8, rbp
      4c 01 d3       ; add rbx, r10
      4d 01 dd       ; add r13, r11
      4d 01 e6       ; add r14, r12
      48 39 fc       ; cmp rsp, rdi
      75 0a          ; jne wrong
      48 ff c3       ; inc rbx
      48 ff cf       ; dec rdi
      ff c9          ; dec ecx
      75 d7          ; jnz again
      f4             ; wrong: hlt
    `,
      { rdi: BigInt(first), rcx: BigInt(rounds), rbx: 1n, r8: 3n, r13: 0n, r14: 0n },
    );
    g.untilHalt();
    let [rbx, r8, r13, r14] = [1n, 3n, 0n, 0n];
    for (let round = 0n; round < BigInt(rounds); round++) {
      r8 *= 2n;
      r13 += BigInt(rounds) - round;
      r14 += BigInt(first) - round;
      rbx = rbx * 2n + 1n;
    }
    expect(g.reg('rcx')).toBe(0n);
    expect(g.reg('r8')).toBe(BigInt.asUintN(64, r8));
    expect(g.reg('rbx')).toBe(BigInt.asUintN(64, rbx));
    expect(g.reg('r13')).toBe(r13);
    expect(g.reg('r14')).toBe(r14);
  });

  it('of a call with its pushes and of pops with the return, at every distance from the end of a page', () => {
    const first = PLACE.stack + 64;
    const rounds = 128;
    const g = guest(
      `
      48 89 fc       ; again: mov rsp, rdi
      e8 0e 00 00 00 ; call function
      49 01 c0       ; add r8, rax
      49 01 d9       ; add r9, rbx
      48 ff cf       ; dec rdi
      ff c9          ; dec ecx
      75 eb          ; jnz again
      f4             ; hlt
      51             ; function: push rcx
      57             ; push rdi
      48 ff c2       ; inc rdx
      5b             ; pop rbx
      58             ; pop rax
      c3             ; ret
    `,
      { rdi: BigInt(first), rcx: BigInt(rounds), rdx: 0n, r8: 0n, r9: 0n },
    );
    g.untilHalt();
    let [r8, r9] = [0n, 0n];
    for (let round = 0; round < rounds; round++) {
      r8 += BigInt(rounds - round);
      r9 += BigInt(first - round);
    }
    expect([g.reg('rdx'), g.reg('r8'), g.reg('r9')]).toEqual([BigInt(rounds), r8, r9]);
  });

  /** A loop of pushes or pops, in whose last round the stack is where the page below begins to be missing. */
  function faulting(operations: string, rsp: number): Guest {
    return looping(
      `
      48 89 fc       ; again: mov rsp, rdi
      ${operations}
      ff c9          ; dec ecx
      75 f3          ; jnz again
      4c 89 cf       ; mov rdi, r9
      ff c1          ; inc ecx
      eb ec          ; jmp again
    `,
      rsp,
    );
  }

  function looping(listing: string, rsp: number): Guest {
    const registers = { rax: 0xa1n, rbx: 0xb2n, rdx: 0xc3n, rsi: 0xd4n };
    const g = guest(listing, { rdi: BigInt(PLACE.data), rcx: 100n, r9: BigInt(rsp), ...registers });
    g.mapPage(BELOW, 0n);
    const gate = PLACE.idt + PAGE_FAULT * 16;
    g.setRam64(gate, g.ram64(gate) | IST1_BIT);
    g.setRam64(PLACE.tss + IST1, BigInt(FAULT_STACK));
    return g;
  }

  it('of pushes that fault after two', () => {
    const g = faulting('50 53 52 56 90 90 ; push rax, rbx, rdx, rsi', PLACE.stack + 16);
    g.untilHalt();
    expect(g.frame()).toMatchObject({
      vector: PAGE_FAULT,
      error: 2n,
      rip: BigInt(PLACE.code + 5),
      rsp: BigInt(PLACE.stack),
    });
    expect(g.state64(STATE.CR2)).toBe(BigInt(PLACE.stack - 8));
    expect([g.ram64(PLACE.stack + 8), g.ram64(PLACE.stack)]).toEqual([0xa1n, 0xb2n]);
  });

  it('of pops that fault after two', () => {
    const at = PLACE.stack - 4096 - 16;
    const g = faulting('58 5b 5a 5e 90 90 ; pop rax, rbx, rdx, rsi', at);
    g.setRam64(at, 0x11n);
    g.setRam64(at + 8, 0x22n);
    for (let n = 0; n < 4; n++) g.setRam64(PLACE.data + n * 8, 0x77n);
    g.untilHalt();
    expect(g.frame()).toMatchObject({
      vector: PAGE_FAULT,
      error: 0n,
      rip: BigInt(PLACE.code + 5),
      rsp: BigInt(BELOW),
    });
    expect(['rax', 'rbx', 'rdx', 'rsi'].map((name) => g.reg(name as 'rax'))).toEqual([
      0x11n,
      0x22n,
      0x77n,
      0x77n,
    ]);
  });

  it('of a call whose function faults at its first push', () => {
    const g = looping(
      `
      48 89 fc       ; again: mov rsp, rdi
      e8 0b 00 00 00 ; call function
      ff c9          ; dec ecx
      75 f4          ; jnz again
      4c 89 cf       ; mov rdi, r9
      ff c1          ; inc ecx
      eb ed          ; jmp again
      50             ; function: push rax
      53             ; push rbx
      5b             ; pop rbx
      58             ; pop rax
      c3             ; ret
    `,
      PLACE.stack + 8,
    );
    g.untilHalt();
    expect(g.frame()).toMatchObject({
      vector: PAGE_FAULT,
      error: 2n,
      rip: BigInt(PLACE.code + 19),
      rsp: BigInt(PLACE.stack),
    });
    expect(g.state64(STATE.CR2)).toBe(BigInt(PLACE.stack - 8));
    expect(g.ram64(PLACE.stack)).toBe(BigInt(PLACE.code + 8));
  });

  it('of pushes that write the instruction behind them', () => {
    const changed = PLACE.code + 8;
    const g = guest(
      `
      48 89 fc                ; again: mov rsp, rdi
      90 90 90                ; nop
      50                      ; push rax
      53                      ; push rbx
      ba 01 00 00 00 90 90 90 ; mov edx, 1
      90 90 90 90 90 90 90 90 ; nop
      01 d5                   ; add ebp, edx
      ff c9                   ; dec ecx
      75 e2                   ; jnz again
      4c 89 cf                ; mov rdi, r9
      ff c1                   ; inc ecx
      4d 85 c0                ; test r8, r8
      4d 89 d0                ; mov r8, r10
      75 d5                   ; jnz again
      f4                      ; hlt
    `,
      {
        rdi: BigInt(PLACE.data),
        rcx: 100n,
        rbp: 0n,
        r8: 1n,
        r9: BigInt(changed + 16),
        r10: 0n,
        rax: 0x9090_9090_9090_9090n,
        // mov edx, 1000
        rbx: 0x9090_9000_0003_e8ban,
      },
    );
    g.untilHalt();
    expect(g.reg('rbp')).toBe(1100n);
  });
});
