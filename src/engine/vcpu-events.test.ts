/** Interrupts, NMIs, shadows, single steps and halts, seen by programs in 64-bit mode. */
import { describe, expect, it } from 'vitest';
import { EXIT, STATE } from './layout.ts';
import { FLAG, Guest, PLACE, PTE, SETTINGS } from './testing/guest.ts';

const [DEBUG, NMI, PAGE_FAULT, TIMER, OTHER] = [1, 2, 14, 0x40, 0x41];
const HANDLER = 0x12000;
/** The handlers of these tests write what they see here, 8 bytes each. */
const LOG = PLACE.data;

describe.each(SETTINGS)('events with $tlbEntries TLB entries, JIT threshold $jitThreshold', (settings) => {
  /** RDI points to the log. */
  function guest(listing: string, registers: Record<string, bigint> = {}): Guest {
    const g = new Guest(settings);
    g.load(PLACE.code, listing);
    g.longMode({ rdi: BigInt(LOG), ...registers });
    return g;
  }

  /** Offsets in the program that handlers have logged as the interrupted RIP. */
  function logged(g: Guest): number[] {
    const entries = (Number(g.reg('rdi')) - LOG) / 8;
    return Array.from({ length: entries }, (_, n) => Number(g.ram64(LOG + n * 8)) - PLACE.code);
  }

  /** Lets a vector's handler log the interrupted RIP and return. */
  function logTo(g: Guest, vector: number, at = HANDLER + vector * 64): void {
    g.handle(
      vector,
      at,
      `
      50             ; push rax
      48 8b 44 24 08 ; mov rax, [rsp + 8]
      48 89 07       ; mov [rdi], rax
      48 83 c7 08    ; add rdi, 8
      58             ; pop rax
      48 cf          ; iretq
    `,
    );
  }

  /** Interrupts as a controller would: what is pending is delivered whenever the CPU can take it. */
  function serve(g: Guest, vectors: number[]): void {
    g.cpu.setInterruptPending(vectors.length > 0);
    for (let turns = 0; turns < 1000; turns++) {
      const vector = vectors[0];
      if (vector !== undefined && g.cpu.interruptible) {
        g.cpu.interrupt(vector);
        vectors.shift();
        g.cpu.setInterruptPending(vectors.length > 0);
      }
      if (g.cpu.halted && !(vectors.length > 0 && g.cpu.interruptible)) return;
      g.cpu.run(10_000);
    }
    throw new Error(`does not halt\n${g.cpu.dump()}`);
  }

  describe('interrupts', () => {
    it('are taken behind the instruction that follows STI', () => {
      const g = guest(
        `
      fb    ; sti
      ff c0 ; inc eax
      ff c0 ; inc eax
      ff c0 ; inc eax
      fa    ; cli
      f4    ; hlt
    `,
      );
      logTo(g, TIMER);
      serve(g, [TIMER]);
      expect(logged(g)).toEqual([3]);
      expect(g.reg('rax')).toBe(3n);
    });

    it('are taken between STI and a jump’s target, at the latest', () => {
      const g = guest(
        `
      fb                   ; sti
      ff c0                ; again: inc eax
      48 81 ff 00 00 02 00 ; cmp rdi, 0x20000
      74 f5                ; je again
      fa                   ; cli
      f4                   ; hlt
    `,
      );
      logTo(g, TIMER);
      serve(g, [TIMER]);
      expect(logged(g)).toHaveLength(1);
      expect(g.reg('rax')).toBeLessThan(100n);
    });

    it('end STI; HLT', () => {
      const g = guest(
        `
      fb ; sti
      f4 ; hlt
      fa ; cli
      f4 ; hlt
    `,
      );
      logTo(g, TIMER);
      expect(g.cpu.run(1000)).toBe(EXIT.HALT);
      expect([g.cpu.halted, g.cpu.interruptible]).toEqual([true, true]);
      serve(g, [TIMER]);
      expect(logged(g)).toEqual([2]);
    });

    it('wait while IF is clear, and come with the POPF that sets it', () => {
      const g = guest(
        `
      9c                   ; pushf
      81 0c 24 00 02 00 00 ; or dword [rsp], 0x200
      b9 64 00 00 00       ; mov ecx, 100
      ff c9                ; again: dec ecx
      75 fc                ; jnz again
      9d                   ; popf
      ff c0                ; inc eax
      fa                   ; cli
      f4                   ; hlt
    `,
      );
      logTo(g, TIMER);
      serve(g, [TIMER]);
      expect(logged(g)).toEqual([18]);
    });

    it('come one after the other', () => {
      const g = guest(
        `
      fb ; sti
      90 ; nop
      90 ; nop
      fa ; cli
      f4 ; hlt
    `,
      );
      logTo(g, TIMER);
      logTo(g, OTHER);
      serve(g, [TIMER, OTHER]);
      expect(logged(g)).toEqual([2, 2]);
    });

    it('that a device raises come at the next instruction', () => {
      const g = guest(
        `
      fb    ; sti
      90    ; nop
      e6 10 ; out 0x10, al
      ff c0 ; inc eax
      fa    ; cli
      f4    ; hlt
    `,
      );
      logTo(g, TIMER);
      g.onWrite = () => g.cpu.setInterruptPending(true);
      g.cpu.run(1000);
      expect(g.rip).toBe(BigInt(PLACE.code) + 4n);
      serve(g, [TIMER]);
      expect(logged(g)).toEqual([4]);
    });

    it('do not come between MOV SS and the instruction behind it', () => {
      const g = guest(
        `
      8c d0 ; mov eax, ss
      fb    ; sti
      90    ; nop
      e6 10 ; out 0x10, al
      8e d0 ; mov ss, eax
      ff c3 ; inc ebx
      ff c3 ; inc ebx
      fa    ; cli
      f4    ; hlt
    `,
      );
      logTo(g, TIMER);
      g.onWrite = () => g.cpu.interruptRun();
      g.cpu.run(1000);
      expect(g.rip).toBe(BigInt(PLACE.code) + 6n);
      g.cpu.run(1);
      serve(g, [TIMER]);
      expect(logged(g)).toEqual([10]);
    });

    it('break a long repetition, which goes on behind them', () => {
      const g = guest(
        `
      fb             ; sti
      48 89 fe       ; mov rsi, rdi
      bf 00 00 08 00 ; mov edi, 0x80000
      b9 00 00 06 00 ; mov ecx, 0x60000
      f3 aa          ; rep stosb
      48 89 f7       ; mov rdi, rsi
      fa             ; cli
      f4             ; hlt
    `,
        { rax: 0x11n },
      );
      g.handle(
        TIMER,
        HANDLER,
        `
      48 89 cb    ; mov rbx, rcx
      48 8b 14 24 ; mov rdx, [rsp]
      48 cf       ; iretq
    `,
      );
      expect(g.cpu.run(5)).toBe(EXIT.BUDGET);
      serve(g, [TIMER]);
      expect(g.reg('rdx')).toBe(BigInt(PLACE.code) + 14n);
      expect(g.reg('rbx')).toBeGreaterThan(0n);
      expect(g.reg('rcx')).toBe(0n);
      expect(g.ram.subarray(0x80000, 0xe0001).indexOf(0)).toBe(0x60000);
    });
  });

  describe('NMIs', () => {
    const raise = (g: Guest): void => g.setState32(STATE.NMI_PENDING, 1);

    it('are taken with IF clear, and end a halt', () => {
      const g = guest(
        `
      f4 ; hlt
      f4 ; hlt
    `,
      );
      logTo(g, NMI);
      expect(g.cpu.run(10)).toBe(EXIT.HALT);
      expect(g.cpu.halted).toBe(true);
      raise(g);
      expect(g.cpu.halted).toBe(false);
      expect(g.cpu.run(100)).toBe(EXIT.HALT);
      expect(logged(g)).toEqual([1]);
      expect(g.rip).toBe(BigInt(PLACE.code) + 2n);
    });

    it('wait while one is handled, until IRET', () => {
      const g = guest(
        `
      ff c0 ; inc eax
      f4    ; hlt
    `,
      );
      g.handle(
        NMI,
        HANDLER,
        `
      ff c3       ; inc ebx
      83 fb 01    ; cmp ebx, 1
      75 09       ; jne second
      e6 10       ; out 0x10, al
      90          ; nop
      90          ; nop
      48 89 e1    ; mov rcx, rsp
      48 cf       ; iretq
      48 89 e2    ; second: mov rdx, rsp
      48 8b 34 24 ; mov rsi, [rsp]
      48 cf       ; iretq
    `,
      );
      g.onWrite = () => {
        raise(g);
        g.cpu.interruptRun();
      };
      raise(g);
      g.untilHalt();
      expect(g.reg('rbx')).toBe(2n);
      // Not nested: both frames were in the same place, and the second interrupted the program itself.
      expect(g.reg('rcx')).toBe(g.reg('rdx'));
      expect(g.reg('rsi')).toBe(BigInt(PLACE.code));
      expect(g.reg('rax')).toBe(1n);
    });
  });

  describe('single step', () => {
    it('traps behind each instruction, the POPF that ends it included', () => {
      const g = guest(
        `
      9c                   ; pushf
      81 0c 24 00 01 00 00 ; or dword [rsp], 0x100
      9d                   ; popf
      ff c0                ; inc eax
      9c                   ; pushf
      81 24 24 ff fe ff ff ; and dword [rsp], ~0x100
      9d                   ; popf
      ff c0                ; inc eax
      f4                   ; hlt
    `,
      );
      logTo(g, DEBUG);
      g.untilHalt();
      // Not behind the POPF that begins it, at 9.
      expect(logged(g)).toEqual([11, 12, 19, 20]);
      expect(g.state64(STATE.DR + 6 * 8) & 0x4000n).toBe(0x4000n);
    });

    it('traps behind each instruction of a loop once', () => {
      const g = guest(
        `
      b9 03 00 00 00       ; mov ecx, 3
      9c                   ; pushf
      81 0c 24 00 01 00 00 ; or dword [rsp], 0x100
      9d                   ; popf
      ff c9                ; again: dec ecx
      75 fc                ; jnz again
      9c                   ; pushf
      81 24 24 ff fe ff ff ; and dword [rsp], ~0x100
      9d                   ; popf
      f4                   ; hlt
    `,
      );
      logTo(g, DEBUG);
      g.untilHalt();
      expect(logged(g)).toEqual([16, 14, 16, 14, 16, 18, 19, 26, 27]);
    });

    it('does not trap behind an instruction that faults, nor within the handler', () => {
      const g = guest(
        `
      9c                   ; pushf
      81 0c 24 00 01 00 00 ; or dword [rsp], 0x100
      9d                   ; popf
      8a 04 25 00 00 04 00 ; mov al, [0x40000]
      90                   ; nop
      9c                   ; pushf
      81 24 24 ff fe ff ff ; and dword [rsp], ~0x100
      9d                   ; popf
      f4                   ; hlt
    `,
      );
      g.mapPage(0x40000, 0n);
      logTo(g, DEBUG);
      g.handle(
        PAGE_FAULT,
        0x13000,
        `
      48 c7 04 25 00 42 00 00 03 00 04 00 ; mov qword [0x4200], 0x40003
      ff c3                            ; inc ebx
      48 83 c4 08                      ; add rsp, 8
      48 cf                            ; iretq
    `,
      );
      g.untilHalt();
      expect(logged(g)).toEqual([16, 17, 18, 25, 26]);
      expect(g.reg('rbx')).toBe(1n);
    });

    it('does not trap within or behind INT; its IRET takes the flag up again', () => {
      const g = guest(
        `
      9c                   ; pushf
      81 0c 24 00 01 00 00 ; or dword [rsp], 0x100
      9d                   ; popf
      cd 41                ; int 0x41
      90                   ; nop
      9c                   ; pushf
      81 24 24 ff fe ff ff ; and dword [rsp], ~0x100
      9d                   ; popf
      f4                   ; hlt
    `,
      );
      logTo(g, DEBUG);
      g.handle(
        OTHER,
        0x13000,
        `
      ff c3 ; inc ebx
      ff c3 ; inc ebx
      48 cf ; iretq
    `,
      );
      g.untilHalt();
      // IRET brings TF back, so that the first trap comes behind NOP.
      expect(logged(g)).toEqual([12, 13, 20, 21]);
    });

    it('traps behind each element of a repetition', () => {
      const g = guest(
        `
      48 89 fe             ; mov rsi, rdi
      bf 00 00 05 00       ; mov edi, 0x50000
      b9 03 00 00 00       ; mov ecx, 3
      9c                   ; pushf
      81 0c 24 00 01 00 00 ; or dword [rsp], 0x100
      9d                   ; popf
      f3 aa                ; rep stosb
      90                   ; nop
      9c                   ; pushf
      81 24 24 ff fe ff ff ; and dword [rsp], ~0x100
      9d                   ; popf
      f4                   ; hlt
    `,
        { rax: 0x77n },
      );
      g.handle(
        DEBUG,
        HANDLER,
        `
      50             ; push rax
      48 8b 44 24 08 ; mov rax, [rsp + 8]
      48 89 06       ; mov [rsi], rax
      48 83 c6 08    ; add rsi, 8
      58             ; pop rax
      48 cf          ; iretq
    `,
      );
      g.untilHalt();
      const count = (Number(g.reg('rsi')) - LOG) / 8;
      const at = Array.from({ length: count }, (_, n) => Number(g.ram64(LOG + n * 8)) - PLACE.code);
      expect(at).toEqual([22, 22, 24, 25, 26, 33, 34]);
      expect(g.ram32(0x50000)).toBe(0x777777);
    });

    it('does not trap behind a SYSCALL that masks the flag', () => {
      const g = guest(
        `
      9c                   ; pushf
      81 0c 24 00 01 00 00 ; or dword [rsp], 0x100
      9d                   ; popf
      0f 05                ; syscall
      90 90 90 90 90       ; 5h> times 5 nop
      f4                   ; hlt
    `,
      );
      logTo(g, DEBUG);
      g.load(0x14000, 'ff c0 f4'); // inc eax; hlt
      g.setState64(STATE.LSTAR, 0x14000n);
      g.setState64(STATE.FMASK, FLAG.TF);
      g.setState64(STATE.STAR, 0x10n << 32n);
      g.untilHalt();
      expect(logged(g)).toEqual([]);
      expect(g.reg('r11') & FLAG.TF).toBe(FLAG.TF);
      expect(g.reg('rax')).toBe(1n);
    });

    it('traps right behind the SYSRET that sets the flag', () => {
      const g = guest(
        `
      b9 00 01 01 00    ; mov ecx, 0x10100
      41 bb 02 01 00 00 ; mov r11d, 0x102
      48 0f 07          ; o64 sysret
    `,
      );
      // Level 3 may execute and the log may be written.
      for (const page of [0x10000, 0x12000, LOG]) g.mapPage(page, BigInt(page) | PTE.P | PTE.W | PTE.U);
      g.load(PLACE.code + 0x100, '90 90'); // nop; nop
      g.setRam64(PLACE.tss + 4, BigInt(PLACE.stack));
      g.handle(
        DEBUG,
        0x13000,
        `
      48 8b 34 24 ; mov rsi, [rsp]
      f4          ; hlt
    `,
      );
      g.setState64(STATE.STAR, 0x10n << 48n);
      g.untilHalt();
      expect(g.reg('rsi')).toBe(BigInt(PLACE.code) + 0x100n);
    });

    it('does not trap between MOV SS and the instruction behind it', () => {
      const g = guest(
        `
      8c d0                ; mov eax, ss
      9c                   ; pushf
      81 0c 24 00 01 00 00 ; or dword [rsp], 0x100
      9d                   ; popf
      8e d0                ; mov ss, eax
      90                   ; nop
      90                   ; nop
      9c                   ; pushf
      81 24 24 ff fe ff ff ; and dword [rsp], ~0x100
      9d                   ; popf
      f4                   ; hlt
    `,
      );
      logTo(g, DEBUG);
      g.untilHalt();
      expect(logged(g)).toEqual([14, 15, 16, 23, 24]);
    });
  });

  it('shuts down when no handler can be reached', () => {
    const g = guest(
      `
      0f 0b ; ud2
    `,
    );
    g.setState32(STATE.IDTR_LIMIT, 0);
    expect(g.cpu.run(100)).toBe(EXIT.SHUTDOWN);
  });
});
