/** Programs in 64-bit mode: flags, memory, faults, changing code. */
import { describe, expect, it } from 'vitest';
import { CPU, EXIT, MODE, STATE } from './layout.ts';
import { FLAG, Guest, PLACE, PTE, SETTINGS } from './testing/guest.ts';

const UNMAPPED = 0x40000;
const PAGE_FAULT = 14;
const ARITHMETIC = FLAG.CF | FLAG.PF | FLAG.AF | FLAG.ZF | FLAG.SF | FLAG.OF;

describe.each(SETTINGS)(
  '64-bit programs with $tlbEntries TLB entries, JIT threshold $jitThreshold',
  (settings) => {
    function guest(listing: string, registers: Record<string, bigint> = {}): Guest {
      const g = new Guest(settings);
      g.load(PLACE.code, listing);
      g.longMode(registers);
      return g;
    }

    it('computes, and retires each instruction once', () => {
      const g = guest(
        `
      b8 ff ff ff ff                ; mov eax, 0xffffffff
      83 c0 01                      ; add eax, 1
      9c                            ; pushf
      5b                            ; pop rbx
      48 b9 ff ff ff ff ff ff ff 7f ; mov rcx, 0x7fffffffffffffff
      48 ff c1                      ; inc rcx
      9c                            ; pushf
      5e                            ; pop rsi
      f4                            ; hlt
    `,
      );
      expect(g.untilHalt()).toBe(9);
      expect(g.reg('rax')).toBe(0n);
      expect(g.reg('rbx') & ARITHMETIC).toBe(FLAG.CF | FLAG.PF | FLAG.AF | FLAG.ZF);
      expect(g.reg('rcx')).toBe(1n << 63n);
      // INC leaves CF as ADD set it.
      expect(g.reg('rsi') & ARITHMETIC).toBe(FLAG.CF | FLAG.PF | FLAG.AF | FLAG.SF | FLAG.OF);
      expect(g.rip).toBe(BigInt(PLACE.code) + 26n);
    });

    it('keeps the flags of an addition through shifts by CL = 0', () => {
      const g = guest(
        `
      bf 20 00 00 00 ; mov edi, 0x20
      b8 ff ff ff 7f ; again: mov eax, 0x7fffffff
      31 c9          ; xor ecx, ecx
      83 c0 01       ; add eax, 1
      d3 e2          ; shl edx, cl
      9c             ; pushf
      5b             ; pop rbx
      0f 9c c0       ; setl al
      ff cf          ; dec edi
      75 eb          ; jnz again
      f4             ; hlt
    `,
      );
      g.untilHalt();
      expect(g.reg('rbx') & ARITHMETIC).toBe(FLAG.PF | FLAG.AF | FLAG.SF | FLAG.OF);
      expect(g.reg('rax')).toBe(0x8000_0000n);
    });

    it('keeps the flags through a double shift by CL = 0, and all but ZF through LAR', () => {
      const g = guest(
        `
      bf 20 00 00 00 ; mov edi, 0x20
      b8 ff ff ff ff ; again: mov eax, -1
      31 c9          ; xor ecx, ecx
      83 c0 02       ; add eax, 2
      0f a5 d6       ; shld esi, edx, cl
      0f 02 d0       ; lar edx, ax
      9c             ; pushf
      5b             ; pop rbx
      ff cf          ; dec edi
      75 eb          ; jnz again
      f4             ; hlt
    `,
      );
      g.untilHalt();
      expect(g.reg('rbx') & ARITHMETIC).toBe(FLAG.CF | FLAG.AF);
    });

    it('stops at the budget and goes on', () => {
      const g = guest(
        `
      b9 88 13 00 00 ; mov ecx, 5000
      ff c9          ; again: dec ecx
      75 fc          ; jnz again
      f4             ; hlt
    `,
      );
      expect(g.cpu.run(100)).toBe(EXIT.BUDGET);
      expect(g.cpu.instructions).toBeGreaterThanOrEqual(100);
      expect(g.cpu.instructions).toBeLessThan(200);
      g.untilHalt();
      expect(g.cpu.instructions).toBe(10_002);
    });

    describe('addresses', () => {
      it('counts RIP-relative operands from the next instruction, whatever follows the displacement', () => {
        const g = guest(
          `
      c7 04 25 00 00 02 00 44 33 22 11 ; mov dword [rel 0x20000], 0x11223344
      80 04 25 01 00 02 00 10          ; add byte [rel 0x20001], 0x10
      8b 04 25 00 00 02 00             ; mov eax, [rel 0x20000]
      48 8d 1c 25 00 00 02 00          ; lea rbx, [rel 0x20000]
      69 0c 25 00 00 02 00 00 01 00 00 ; imul ecx, [rel 0x20000], 0x100
      f4                               ; hlt
    `,
        );
        g.untilHalt();
        expect(g.reg('rax')).toBe(0x11224344n);
        expect(g.reg('rbx')).toBe(0x20000n);
        expect(g.reg('rcx')).toBe(0x22434400n);
      });

      it('reads and writes across pages that are not neighbours in RAM', () => {
        const g = guest(
          `
      48 b8 88 77 66 55 44 33 22 11    ; mov rax, 0x1122334455667788
      48 89 04 25 fd 0f 02 00          ; mov [0x20ffd], rax
      48 8b 1c 25 fd 0f 02 00          ; mov rbx, [0x20ffd]
      48 81 04 25 fd 0f 02 00 00 00 00 01 ; add qword [0x20ffd], 0x1000000
      48 8b 0c 25 fd 0f 02 00          ; mov rcx, [0x20ffd]
      f3 0f 6f 04 25 f9 0f 02 00       ; movdqu xmm0, [0x20ff9]
      f3 0f 7f 04 25 f1 0f 02 00       ; movdqu [0x20ff1], xmm0
      f4                               ; hlt
    `,
        );
        g.mapPage(0x21000, 0x50000n | PTE.P | PTE.W);
        g.setRam64(0x21000, 0n);
        g.untilHalt();
        expect(g.reg('rbx')).toBe(0x1122334455667788n);
        expect(g.reg('rcx')).toBe(0x1122334456667788n);
        // 5 of the number's bytes are in the second page; the vector's last byte has replaced the first of them.
        expect(g.ram64(0x50000)).toBe(0x1122334400n);
        expect(g.ram64(0x21000)).toBe(0n);
        expect(g.ram64(0x20ff5)).toBe(0x1122334456667788n);
      });

      it('accesses devices where there is no RAM', () => {
        const writes: string[] = [];
        const g = guest(
          `
      be 00 00 04 00 ; mov rsi, 0x40000
      8b 46 08       ; mov eax, [rsi + 8]
      66 89 4e 10    ; mov [rsi + 16], cx
      83 46 14 01    ; add dword [rsi + 20], 1
      f4             ; hlt
    `,
          { rcx: 0x1234n },
        );
        g.mapPage(UNMAPPED, 0xfe000000n | PTE.P | PTE.W);
        g.onWrite = (at, value) => writes.push(`${at.toString(16)}=${value.toString(16)}`);
        g.untilHalt();
        expect(g.reg('rax')).toBe(0x5a5a5a5an);
        expect(writes).toEqual(['fe000010=1234', 'fe000014=5a5a5a5b']);
      });
    });

    describe('code', () => {
      it('runs an instruction that lies in two pages, and follows a change of the second', () => {
        const g = guest(
          `
      bf fd 0f 05 00                   ; mov rdi, 0x50ffd
      ff d7                            ; call rdi
      89 c3                            ; mov ebx, eax
      48 c7 04 25 88 42 00 00 03 30 05 00 ; mov qword [0x4288], 0x53003
      0f 01 3c 25 00 10 05 00          ; invlpg [0x51000]
      ff d7                            ; call rdi
      f4                               ; hlt
    `,
        );
        g.load(0x50ffd, 'b8 11 22'); // mov eax, …
        g.load(0x51000, '33 44 c3'); // ret
        g.load(0x53000, '55 66 c3');
        g.untilHalt();
        expect(g.reg('rbx')).toBe(0x44332211n);
        expect(g.reg('rax')).toBe(0x66552211n);
      });

      it('runs an instruction as its own block wrote it', () => {
        const g = guest(
          `
      c6 05 01 00 00 00 07 ; mov byte [rel target + 1], 7
      b0 01                ; target: mov al, 1
      c6 05 02 00 00 00 09 ; mov byte [rel other + 1], 9
      90                   ; nop
      b3 01                ; other: mov bl, 1
      f4                   ; hlt
    `,
        );
        g.untilHalt();
        expect(g.reg('rax')).toBe(7n);
        expect(g.reg('rbx')).toBe(9n);
        expect(g.cpu.instructions).toBe(6);
      });

      it('runs an instruction as REP STOSB of its own block wrote it', () => {
        const g = guest(
          `
      bf 0d 00 01 00 ; mov edi, 0x1000d
      b9 01 00 00 00 ; mov ecx, 1
      f3 aa          ; rep stosb
      b3 01          ; mov bl, 1
      f4             ; hlt
    `,
          { rax: 0xf0n },
        );
        g.untilHalt();
        expect(g.reg('rbx')).toBe(0xf0n);
      });

      it('runs an instruction as CMPXCHG16B of its own block wrote it', () => {
        const g = guest(
          `
      f0 48 0f c7 0c 25 20 00 01 00    ; lock cmpxchg16b [0x10020]
      90 90 90 90 90 90 90 90 90 90 90 90 90 90 90 90 90 90 90 90 90 90 ; 16h> times 0x20 - ($ - $$) nop
      b3 01                            ; mov bl, 1
      f4                               ; hlt
      90 90 90 90 90 90 90 90 90 90 90 90 90 ; Dh> times 13 nop
    `,
          {
            rax: 0x90909090_90f401b3n,
            rdx: 0x90909090_90909090n,
            rbx: 0x90909090_90f4f0b3n,
            rcx: 0x90909090_90909090n,
          },
        );
        g.untilHalt();
        expect(g.reg('rbx') & 0xffn).toBe(0xf0n);
      });

      it('sees changed code of another page, through another mapping too', () => {
        const g = guest(
          `
      bf 00 00 05 00          ; mov rdi, 0x50000
      ff d7                   ; call rdi
      89 c3                   ; mov ebx, eax
      c6 04 25 01 00 05 00 02 ; mov byte [0x50001], 2
      ff d7                   ; call rdi
      89 c6                   ; mov esi, eax
      c6 04 25 01 00 06 00 03 ; mov byte [0x60001], 3
      ff d7                   ; call rdi
      f4                      ; hlt
    `,
        );
        g.load(0x50000, 'b8 01 00 00 00 c3'); // mov eax, 1; ret
        g.mapPage(0x60000, 0x50000n | PTE.P | PTE.W);
        g.untilHalt();
        expect([g.reg('rbx'), g.reg('rsi'), g.reg('rax')]).toEqual([1n, 2n, 3n]);
      });

      it('sees the tail of an instruction change in the second page', () => {
        const g = guest(
          `
      bf fd 0f 05 00                ; mov rdi, 0x50ffd
      ff d7                         ; call rdi
      89 c3                         ; mov ebx, eax
      66 c7 04 25 00 10 05 00 66 77 ; mov word [0x51000], 0x7766
      ff d7                         ; call rdi
      f4                            ; hlt
    `,
        );
        g.load(0x50ffd, 'b8 11 22 33 44 c3'); // mov eax, 0x44332211; ret
        g.untilHalt();
        expect(g.reg('rbx')).toBe(0x44332211n);
        expect(g.reg('rax')).toBe(0x77662211n);
      });

      it('sees code that a device wrote, be it called by that code', () => {
        const g = guest(
          `
      b9 03 00 00 00       ; mov ecx, 3
      89 0c 25 00 00 04 00 ; again: mov [0x40000], ecx
      b0 01                ; mov al, 1
      ff c9                ; dec ecx
      75 f3                ; jnz again
      f4                   ; hlt
    `,
        );
        g.mapPage(UNMAPPED, 0xfe000000n | PTE.P | PTE.W);
        g.onWrite = (_at, value) => {
          if (value !== 2) return;
          g.ram[PLACE.code + 13] = 9;
          g.cpu.invalidate(PLACE.code + 13, 1);
        };
        expect(g.ram[PLACE.code + 12]).toBe(0xb0);
        g.untilHalt();
        expect(g.reg('rax')).toBe(9n);
        expect(g.cpu.instructions).toBe(14);
      });

      it('decodes anew when the room for decoded code is used up', () => {
        const g = new Guest({ ...settings, arenaBytes: 0x10000 });
        g.load(
          PLACE.code,
          `
      b9 03 00 00 00 ; mov ecx, 3
      bf 00 00 10 00 ; mov edi, 0x100000
      ff e7          ; jmp rdi
      ff c9          ; done: dec ecx
      74 02          ; jz end
      ff e7          ; jmp rdi
      f4             ; end: hlt
    `,
        );
        const [BLOCKS, BLOCK_BYTES] = [600, 0x100];
        for (let n = 0; n < BLOCKS; n++) {
          // inc rax; add rbx, rax; jmp to the next
          g.load(0x100000 + n * BLOCK_BYTES, '48 ff c0 48 01 c3 e9');
          const last = n === BLOCKS - 1;
          const next = last ? PLACE.code + 12 : 0x100000 + (n + 1) * BLOCK_BYTES;
          g.view.setInt32(
            g.map.ram + 0x100000 + n * BLOCK_BYTES + 7,
            next - (0x100000 + n * BLOCK_BYTES + 11),
            true,
          );
        }
        g.longMode();
        g.untilHalt();
        expect(g.reg('rax')).toBe(1800n);
        expect(g.reg('rbx')).toBe((1800n * 1801n) / 2n);
        expect(g.cpu.instructions).toBe(3 + 3 * BLOCKS * 3 + 2 * 3 + 2 + 1);
      });
    });

    describe('faults', () => {
      it('leaves everything as it was before the instruction, in mid-block', () => {
        const g = guest(
          `
      ff c0                ; inc eax
      81 c3 00 00 00 80    ; add ebx, 0x80000000
      11 0c 25 08 00 04 00 ; adc [0x40008], ecx
      ff c0                ; inc eax
      f4                   ; hlt
    `,
          { rbx: 0x80000000n, rcx: 5n },
        );
        g.mapPage(UNMAPPED, 0n);
        expect(g.untilHalt()).toBe(3); // two, and the handler's HLT
        const frame = g.frame();
        expect(frame).toMatchObject({
          vector: PAGE_FAULT,
          error: 2n,
          rip: 0x10008n,
          rsp: BigInt(PLACE.stack),
        });
        expect(frame.flags & ARITHMETIC).toBe(FLAG.CF | FLAG.PF | FLAG.ZF | FLAG.OF);
        expect(frame.flags & FLAG.RF).toBe(FLAG.RF);
        expect(g.state64(STATE.CR2)).toBe(0x40008n);
        expect([g.reg('rax'), g.reg('rbx'), g.reg('rcx')]).toEqual([1n, 0n, 5n]);
      });

      it('writes nothing when the second page of a store is missing', () => {
        const g = guest(
          `
      48 c7 04 25 fc ff 03 00 ff ff ff ff ; mov qword [0x3fffc], -1
      f4                               ; hlt
    `,
        );
        g.mapPage(UNMAPPED, 0n);
        g.untilHalt();
        expect(g.frame()).toMatchObject({ vector: PAGE_FAULT, error: 2n, rip: 0x10000n });
        expect(g.state64(STATE.CR2)).toBe(0x40000n);
        expect(g.ram32(0x3fffc)).toBe(0);
      });

      it('does not touch a page that may only be read', () => {
        const g = guest(
          `
      f9                      ; stc
      0f c1 04 25 00 00 04 00 ; xadd [0x40000], eax
      f4                      ; hlt
    `,
          { rax: 7n },
        );
        g.mapPage(UNMAPPED, BigInt(UNMAPPED) | PTE.P);
        g.setRam64(UNMAPPED, 1n);
        g.untilHalt();
        expect(g.frame()).toMatchObject({ vector: PAGE_FAULT, error: 3n, rip: 0x10001n });
        expect(g.frame().flags & ARITHMETIC).toBe(FLAG.CF);
        expect([g.reg('rax'), g.ram64(UNMAPPED)]).toEqual([7n, 1n]);
      });

      it('reports the fetch of a missing page at the address that is missing', () => {
        const g = guest(
          `
      b8 fd ff 03 00 ; mov eax, 0x3fffd
      ff e0          ; jmp rax
      f4             ; hlt
    `,
        );
        g.load(0x3fffd, 'ff c3 b8'); // inc ebx; mov eax, … in the next page
        g.mapPage(UNMAPPED, 0n);
        expect(g.untilHalt()).toBe(4);
        expect(g.frame()).toMatchObject({ vector: PAGE_FAULT, error: 0x10n, rip: 0x3ffffn });
        expect(g.state64(STATE.CR2)).toBe(0x40000n);
        expect(g.reg('rbx')).toBe(1n);
      });

      it('goes on behind a handler that maps the page', () => {
        const g = guest(
          `
      b9 02 00 00 00       ; mov ecx, 2
      ff 04 25 00 00 04 00 ; again: inc dword [0x40000]
      ff 04 25 fe ff 03 00 ; inc dword [0x3fffe]
      ff c9                ; dec ecx
      75 ee                ; jnz again
      f4                   ; hlt
    `,
        );
        g.mapPage(UNMAPPED, 0n);
        g.handle(
          PAGE_FAULT,
          0x12000,
          `
      48 c7 04 25 00 42 00 00 03 00 04 00 ; mov qword [0x4200], 0x40003
      ff c3                            ; inc ebx
      48 83 c4 08                      ; add rsp, 8
      48 cf                            ; iretq
    `,
        );
        g.untilHalt();
        expect(g.reg('rbx')).toBe(1n);
        expect(g.ram64(0x3fffe)).toBe(0x20002n);
        expect(g.cpu.instructions).toBe(1 + 2 * 4 + 4 + 1);
      });

      it('interrupts a repetition at the element that faults, and counts it once', () => {
        const g = guest(
          `
      bf f0 ff 03 00 ; mov edi, 0x3fff0
      b9 40 00 00 00 ; mov ecx, 0x40
      b0 aa          ; mov al, 0xaa
      f3 aa          ; rep stosb
      f4             ; hlt
    `,
        );
        g.mapPage(UNMAPPED, 0n);
        g.handle(
          PAGE_FAULT,
          0x12000,
          `
      48 89 cb                         ; mov rbx, rcx
      48 89 fe                         ; mov rsi, rdi
      48 8b 54 24 08                   ; mov rdx, [rsp + 8]
      48 c7 04 25 00 42 00 00 03 00 04 00 ; mov qword [0x4200], 0x40003
      48 83 c4 08                      ; add rsp, 8
      48 cf                            ; iretq
    `,
        );
        expect(g.untilHalt()).toBe(5 + 6);
        expect([g.reg('rbx'), g.reg('rsi'), g.reg('rdx')]).toEqual([0x30n, 0x40000n, 0x1000cn]);
        expect([g.reg('rcx'), g.reg('rdi')]).toEqual([0n, 0x40030n]);
        expect(g.ram.subarray(0x3fff0, 0x40031).findIndex((byte) => byte !== 0xaa)).toBe(0x40);
      });

      it('counts a repetition once, however long it is', () => {
        const g = guest(
          `
      bf 00 00 08 00 ; mov edi, 0x80000
      b9 00 00 08 00 ; mov ecx, 0x80000
      f3 66 ab       ; rep stosw
      f4             ; hlt
    `,
          { rax: 0x1234n },
        );
        expect(g.untilHalt()).toBe(4);
        expect(g.ram64(0x17fff8)).toBe(0x1234123412341234n);
      });

      it('keeps the x87 unit when FNSAVE faults', () => {
        const g = guest(
          `
      db e3                ; fninit
      d9 e8                ; fld1
      dd 34 25 c0 ff 03 00 ; fnsave [0x3ffc0]
      f4                   ; hlt
    `,
        );
        g.mapPage(UNMAPPED, 0n);
        g.untilHalt();
        expect(g.frame()).toMatchObject({ vector: PAGE_FAULT, rip: 0x10004n });
        expect(g.view.getUint32(CPU + STATE.FTW, true)).toBe(0x80);
      });

      it('divides by nothing without a trace', () => {
        const g = guest(
          `
      b8 05 00 00 00 ; mov eax, 5
      31 c9          ; xor ecx, ecx
      f7 f1          ; div ecx
      f4             ; hlt
    `,
          { rdx: 3n },
        );
        g.untilHalt();
        expect(g.frame()).toMatchObject({ vector: 0, error: undefined, rip: 0x10007n });
        expect([g.reg('rax'), g.reg('rdx')]).toEqual([5n, 3n]);
      });
    });

    describe('LOCK', () => {
      it.each([
        ['add [rsi], eax', 'f0 01 06', true],
        ['cmp [rsi], eax', 'f0 39 06', false],
        ['add eax, [rsi]', 'f0 03 06', false],
        ['add eax, ecx', 'f0 01 c8', false],
        ['or dword [rsi], 1', 'f0 83 0e 01', true],
        ['cmp dword [rsi], 1', 'f0 83 3e 01', false],
        ['inc byte [rsi]', 'f0 fe 06', true],
        ['push qword [rsi]', 'f0 ff 36', false],
        ['not dword [rsi]', 'f0 f7 16', true],
        ['neg dword [rsi]', 'f0 f7 1e', true],
        ['test dword [rsi], 1', 'f0 f7 06 01 00 00 00', false],
        ['mul dword [rsi]', 'f0 f7 26', false],
        ['xchg [rsi], eax', 'f0 87 06', true],
        ['xchg ecx, eax', 'f0 87 c1', false],
        ['mov [rsi], eax', 'f0 89 06', false],
        ['xadd [rsi], eax', 'f0 0f c1 06', true],
        ['cmpxchg [rsi], ecx', 'f0 0f b1 0e', true],
        ['cmpxchg8b [rsi]', 'f0 0f c7 0e', true],
        ['bt [rsi], eax', 'f0 0f a3 06', false],
        ['bts [rsi], eax', 'f0 0f ab 06', true],
        ['bt dword [rsi], 1', 'f0 0f ba 26 01', false],
        ['btc dword [rsi], 1', 'f0 0f ba 3e 01', true],
        ['shl dword [rsi], 1', 'f0 d1 26', false],
        ['shld [rsi], eax, 1', 'f0 0f a4 06 01', false],
        ['nop', 'f0 90', false],
        ['movsb', 'f0 a4', false],
        ['movdqu xmm0, [rsi]', 'f0 f3 0f 6f 06', false],
        ['pshufb xmm0, [rsi]', '66 f0 0f 38 00 06', false],
      ])('%s', (_name, listing, allowed) => {
        const g = guest(`${listing} f4`, { rsi: BigInt(PLACE.data), rdi: BigInt(PLACE.data) + 64n });
        g.untilHalt();
        if (allowed)
          expect(g.rip).toBe(BigInt(PLACE.code) + BigInt(listing.replace(/\s/g, '').length / 2 + 1));
        else expect(g.frame()).toMatchObject({ vector: 6, rip: BigInt(PLACE.code) });
      });
    });

    it('enters compatibility mode and returns, with a 32-bit instruction pointer', () => {
      const g = guest(
        `
      6a 20          ; push 0x20
      68 00 10 01 00 ; push 0x11000
      48 cb          ; o64 retf
      48 89 e3       ; back: mov rbx, rsp
      f4             ; hlt
    `,
      );
      // In 32-bit code 48 is DEC EAX; a jump back across address 0 wraps.
      g.load(
        0x11000,
        `
      31 c0                ; xor eax, eax
      48                   ; dec eax
      e8 00 00 00 00       ; call next
      59                   ; next: pop ecx
      ea 09 00 01 00 10 00 ; jmp 0x10:0x10009
    `,
      );
      g.untilHalt();
      expect(g.reg('rax')).toBe(0xffffffffn);
      expect(g.reg('rcx')).toBe(0x11008n);
      expect(g.reg('rbx')).toBe(BigInt(PLACE.stack));
      expect(g.view.getUint32(CPU + STATE.MODE, true) & MODE.CODE_SIZE_MASK).toBe(MODE.CODE64);
    });
  },
);
