/** Programs in real mode and in 32-bit protected mode. */
import { describe, expect, it } from 'vitest';
import { STATE } from './layout.ts';
import { FLAG, Guest, PLACE, PTE, SELECTOR, SETTINGS } from './testing/guest.ts';

const REAL_CODE = 0x7c00;
const PAGE_FAULT = 14;

describe.each(SETTINGS)('real mode with $tlbEntries TLB entries, JIT threshold $jitThreshold', (settings) => {
  function guest(listing: string, registers: Record<string, bigint> = {}): Guest {
    const g = new Guest(settings);
    g.load(REAL_CODE, listing);
    g.realMode(REAL_CODE, registers);
    return g;
  }

  it('adds segments, and wraps offsets at 16 bits', () => {
    const g = guest(
      `
      b8 00 20          ; mov ax, 0x2000
      8e d8             ; mov ds, ax
      bb f0 ff          ; mov bx, 0xfff0
      be 20 00          ; mov si, 0x20
      c6 00 5a          ; mov byte [bx + si], 0x5a
      bd 10 00          ; mov bp, 0x10
      c6 46 02 5b       ; mov byte [bp + 2], 0x5b
      26 c6 06 00 40 5c ; mov byte [es:0x4000], 0x5c
      66 b8 44 33 22 11 ; mov eax, 0x11223344
      66 8b 48 01       ; mov ecx, [bx + si + 1]
      f4                ; hlt
    `,
    );
    g.setRam64(0x20011, 0x99887766n);
    g.untilHalt();
    expect(g.ram[0x20010]).toBe(0x5a);
    expect(g.ram[0x12]).toBe(0x5b); // by SS
    expect(g.ram[0x4000]).toBe(0x5c);
    expect(g.reg('rax')).toBe(0x11223344n);
    expect(g.reg('rcx')).toBe(0x99887766n);
  });

  it('keeps the upper parts of registers', () => {
    const g = guest(
      `
      b8 34 12 ; mov ax, 0x1234
      50       ; push ax
      5b       ; pop bx
      80 c1 ff ; add cl, 0xff
      66 50    ; push eax
      66 5a    ; pop edx
      f4       ; hlt
    `,
      { rax: 0xaaaa0000n, rbx: 0xbbbb0000n, rcx: 0xcccc0002n },
    );
    g.untilHalt();
    expect([g.reg('rax'), g.reg('rbx'), g.reg('rcx'), g.reg('rdx')]).toEqual([
      0xaaaa1234n,
      0xbbbb1234n,
      0xcccc0001n,
      0xaaaa1234n,
    ]);
    expect(g.reg('rsp')).toBe(0x8000n);
  });

  it('wraps the instruction pointer of a jump', () => {
    const g = guest(
      `
      ea 10 00 00 10 ; jmp 0x1000:0x0010
    `,
    );
    g.load(
      0x10010,
      `
      b0 01    ; mov al, 1
      e9 e3 ff ; jmp 0xfff8
    `,
    );
    g.load(
      0x1fff8,
      `
      b3 02    ; mov bl, 2
      e9 23 00 ; jmp 0x20
    `,
    );
    g.load(0x10020, 'b1 03 f4'); // mov cl, 3; hlt
    g.untilHalt();
    expect([g.reg('rax'), g.reg('rbx'), g.reg('rcx')]).toEqual([1n, 2n, 3n]);
    expect(g.rip).toBe(0x23n);
  });

  it('calls interrupt handlers through the vector table', () => {
    const g = guest(
      `
      fb       ; sti
      b8 07 00 ; mov ax, 7
      cd 60    ; int 0x60
      ba 01 00 ; mov dx, 1
      f4       ; hlt
    `,
    );
    g.view.setUint32(g.map.ram + 0x60 * 4, 0x2000_0100, true); // 2000:0100
    g.load(
      0x20100,
      `
      01 c0    ; add ax, ax
      9c       ; pushf
      59       ; pop cx
      89 e5    ; mov bp, sp
      8b 5e 00 ; mov bx, [bp]
      8b 76 04 ; mov si, [bp + 4]
      cf       ; iret
    `,
    );
    g.untilHalt();
    expect([g.reg('rax'), g.reg('rbx'), g.reg('rdx')]).toEqual([14n, 0x7c06n, 1n]);
    expect(g.reg('rcx') & FLAG.IF).toBe(0n);
    expect(g.reg('rsi') & FLAG.IF).toBe(FLAG.IF);
    expect(g.reg('rsp')).toBe(0x8000n);
  });

  it('repeats string instructions by CX, SI and DI', () => {
    const g = guest(
      `
      b8 00 30 ; mov ax, 0x3000
      8e c0    ; mov es, ax
      be 00 90 ; mov si, 0x9000
      bf fe ff ; mov di, 0xfffe
      b9 03 00 ; mov cx, 3
      f3 a5    ; rep movsw
      f4       ; hlt
    `,
      { rcx: 0xdead0000n, rdi: 0x50000n },
    );
    g.load(0x9000, '01 02 03 04 05 06');
    g.untilHalt();
    expect([g.reg('rcx'), g.reg('rsi'), g.reg('rdi')]).toEqual([0xdead0000n, 0x9006n, 0x50004n]);
    expect([...g.ram.subarray(0x3fffe, 0x40000)]).toEqual([1, 2]);
    expect([...g.ram.subarray(0x30000, 0x30004)]).toEqual([3, 4, 5, 6]);
  });

  it('adjusts decimal numbers', () => {
    const g = guest(
      `
      b0 38    ; mov al, 0x38
      04 45    ; add al, 0x45
      27       ; daa
      88 c3    ; mov bl, al
      b0 12    ; mov al, 0x12
      2c 34    ; sub al, 0x34
      2f       ; das
      88 c1    ; mov cl, al
      0f 92 c5 ; setc ch
      b8 07 02 ; mov ax, 0x0207
      d5 0a    ; aad
      88 c2    ; mov dl, al
      b0 3f    ; mov al, 63
      d4 0a    ; aam
      f4       ; hlt
    `,
    );
    g.untilHalt();
    expect(g.reg('rbx')).toBe(0x83n);
    expect(g.reg('rcx')).toBe(0x178n);
    expect([g.reg('rdx') & 0xffn, g.reg('rax')]).toEqual([27n, 0x0603n]);
  });

  it('PUSHA over its own block goes on behind it, with all it pushed', () => {
    const g = guest(
      `
      bc 12 7c                         ; mov sp, after + 14
      60                               ; pusha
      f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 ; 10h> after: times 16 hlt
    `,
      { rax: 0x9090n, rcx: 0x9090n, rdx: 0x9090n, rbx: 0x9090n, rbp: 0xf490n, rsi: 0x41bbn, rdi: 0x4243n },
    );
    // Ascending from `after - 2`: DI, SI, BP, SP, BX, DX, CX, AX.
    g.untilHalt();
    expect([...g.ram.subarray(0x7c02, 0x7c12)]).toEqual([
      0x43, 0x42, 0xbb, 0x41, 0x90, 0xf4, 0x12, 0x7c, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
    ]);
    // mov bx, 0x9041 in place of the HLTs
    expect(g.reg('rbx')).toBe(0x9041n);
  });

  it('enters protected mode and comes back', () => {
    const g = guest(
      `
      fa                      ; cli
      2e 0f 01 16 2e 7c       ; lgdt [cs:table]
      0f 20 c0                ; mov eax, cr0
      0c 01                   ; or al, 1
      0f 22 c0                ; mov cr0, eax
      66 ea 00 00 01 00 20 00 ; jmp dword 0x20:0x10000
      0f 20 c0                ; back: mov eax, cr0
      24 fe                   ; and al, 0xfe
      0f 22 c0                ; mov cr0, eax
      ea 24 7c 00 00          ; jmp 0:real
      b8 00 20                ; real: mov ax, 0x2000
      8e d8                   ; mov ds, ax
      8b 0e 20 00             ; mov cx, [0x20]
      f4                      ; hlt
      47 00                   ; table: dw 0x47
      00 50 00 00             ; dd 0x5000
    `,
    );
    g.load(
      0x10000,
      `
      b8 18 00 00 00                ; mov eax, 0x18
      8e d8                         ; mov ds, eax
      c7 05 00 00 10 00 78 56 34 12 ; mov dword [0x100000], 0x12345678
      8b 1d 00 00 10 00             ; mov ebx, [0x100000]
      66 c7 05 20 00 02 00 21 43    ; mov word [0x20020], 0x4321
      ea 17 7c 00 00 28 00          ; jmp dword 0x28:0x7c17
    `,
    );
    // protectedMode sets the tables up, realMode the CPU.
    g.protectedMode();
    g.realMode(REAL_CODE);
    g.untilHalt();
    expect(g.reg('rbx')).toBe(0x12345678n);
    expect(g.reg('rcx') & 0xffffn).toBe(0x4321n);
  });
});

describe.each(SETTINGS)(
  'protected mode with $tlbEntries TLB entries, JIT threshold $jitThreshold',
  (settings) => {
    function guest(listing: string, registers: Record<string, bigint> = {}): Guest {
      const g = new Guest(settings);
      g.load(PLACE.code, listing);
      g.protectedMode(registers);
      return g;
    }

    it('computes with 32 and 16 bits', () => {
      const g = guest(
        `
      b8 ff ff ff ff ; mov eax, -1
      40             ; inc eax
      bb 00 00 34 12 ; mov ebx, 0x12340000
      66 4b          ; o16 dec ebx
      68 44 33 22 11 ; push dword 0x11223344
      66 68 66 55    ; push word 0x5566
      66 59          ; pop cx
      5a             ; pop edx
      8d 74 58 fc    ; lea esi, [eax + ebx*2 - 4]
      67 8d 38       ; a16 lea edi, [bx + si]
      f4             ; hlt
    `,
      );
      g.untilHalt();
      expect(g.reg('rax')).toBe(0n);
      expect(g.reg('rcx') & 0xffffn).toBe(0x5566n);
      expect(g.reg('rdx')).toBe(0x11223344n);
      expect(g.reg('rsp')).toBe(BigInt(PLACE.stack));
      expect(g.reg('rsi')).toBe((g.reg('rbx') * 2n - 4n) & 0xffffffffn);
      expect(g.reg('rdi')).toBe((g.reg('rbx') + g.reg('rsi')) & 0xffffn);
    });

    it('wraps addresses and the instruction pointer at 32 bits', () => {
      const g = guest(
        `
      bb f0 ff ff ff    ; mov ebx, 0xfffffff0
      8b b3 10 00 02 00 ; mov esi, [ebx + 0x20010]
      0f 20 e0          ; mov eax, cr4
      83 c8 10          ; or eax, 0x10
      0f 22 e0          ; mov cr4, eax
      b8 00 00 06 00    ; mov eax, 0x60000
      0f 22 d8          ; mov cr3, eax
      0f 20 c0          ; mov eax, cr0
      0d 00 00 00 80    ; or eax, 0x80000000
      0f 22 c0          ; mov cr0, eax
      e9 d4 ff 03 80    ; jmp 0x80050000
    `,
      );
      g.setRam64(PLACE.data, 0x13572468n);
      // 4 MiB pages: the first ones at 0 and at 2 GiB.
      g.setRam64(0x60000, 0x83n);
      g.setRam64(0x60800, 0x83n);
      g.load(0x50000, 'f4'); // hlt
      g.untilHalt();
      expect(g.reg('rsi')).toBe(0x13572468n);
      expect(g.rip).toBe(0x80050001n);
    });

    it('PUSHA and POPA are inverse', () => {
      const g = guest(
        `
      60    ; pusha
      31 c0 ; xor eax, eax
      31 db ; xor ebx, ebx
      31 ed ; xor ebp, ebp
      61    ; popa
      f4    ; hlt
    `,
        { rax: 1n, rcx: 2n, rdx: 3n, rbx: 4n, rbp: 5n, rsi: 6n, rdi: 7n },
      );
      g.untilHalt();
      const names = ['rax', 'rcx', 'rdx', 'rbx', 'rbp', 'rsi', 'rdi'] as const;
      expect(names.map((name) => g.reg(name))).toEqual([1n, 2n, 3n, 4n, 5n, 6n, 7n]);
      expect(g.reg('rsp')).toBe(BigInt(PLACE.stack));
      expect(g.ram32(PLACE.stack - 20)).toBe(PLACE.stack);
    });

    it('uses segment bases', () => {
      const g = guest(
        `
      b8 40 00 00 00                   ; mov eax, 0x40
      8e e0                            ; mov fs, eax
      8e c0                            ; mov es, eax
      64 c7 05 10 00 00 00 99 00 00 00 ; mov dword [fs:0x10], 0x99
      bf 20 00 00 00                   ; mov edi, 0x20
      b0 77                            ; mov al, 0x77
      aa                               ; stosb
      26 8b 1d 10 00 00 00             ; mov ebx, [es:0x10]
      8b 0d 10 00 05 00                ; mov ecx, [0x50010]
      f4                               ; hlt
    `,
      );
      // Base 0x50000, 64 KiB of data.
      g.setRam64(PLACE.gdt + 0x40, 0x0040_9305_0000_ffffn);
      g.untilHalt();
      expect([g.reg('rbx'), g.reg('rcx')]).toEqual([0x99n, 0x99n]);
      expect(g.ram[0x50020]).toBe(0x77);
    });

    it('saves the flags and code segment of an exception', () => {
      const g = guest(
        `
      f9             ; stc
      b8 23 01 00 00 ; mov eax, 0x123
      8e d8          ; mov ds, eax
      f4             ; hlt
    `,
      );
      g.untilHalt();
      expect(g.rip).toBe(BigInt(PLACE.handlers + 13 * 16 + 1));
      const at = Number(g.reg('rsp'));
      expect([g.ram32(at), g.ram32(at + 4), g.ram32(at + 8)]).toEqual([0x120, 0x10006, SELECTOR.code32]);
      expect(BigInt(g.ram32(at + 12)) & (FLAG.CF | FLAG.RF)).toBe(FLAG.CF | FLAG.RF);
    });

    it('walks two-level page tables', () => {
      const g = guest(
        `
      0f 20 e0                      ; mov eax, cr4
      83 c8 10                      ; or eax, 0x10
      0f 22 e0                      ; mov cr4, eax
      b8 00 00 06 00                ; mov eax, 0x60000
      0f 22 d8                      ; mov cr3, eax
      0f 20 c0                      ; mov eax, cr0
      0d 00 00 00 80                ; or eax, 0x80000000
      0f 22 c0                      ; mov cr0, eax
      8b 1d 23 01 40 00             ; mov ebx, [0x400123]
      c7 05 fe 0f 40 00 11 22 33 44 ; mov dword [0x400ffe], 0x44332211
      8b 0d 00 00 80 00             ; mov ecx, [0x800000]
      f4                            ; hlt
    `,
      );
      const table = (at: number, n: number, entry: bigint): void =>
        g.view.setUint32(g.map.ram + at + n * 4, Number(entry), true);
      table(0x60000, 0, 0x83n); // 4 MiB one to one
      table(0x60000, 1, 0x61000n | PTE.P | PTE.W);
      table(0x61000, 0, 0x50000n | PTE.P | PTE.W);
      table(0x61000, 1, 0x70000n | PTE.P | PTE.W);
      g.setRam64(0x50123, 0xabcdefn);
      g.untilHalt();
      expect(g.reg('rbx')).toBe(0xabcdefn);
      expect([g.ram[0x50ffe], g.ram[0x50fff], g.ram[0x70000], g.ram[0x70001]]).toEqual([
        0x11, 0x22, 0x33, 0x44,
      ]);
      expect(g.rip).toBe(BigInt(PLACE.handlers + PAGE_FAULT * 16 + 1));
      expect(g.state64(STATE.CR2)).toBe(0x800000n);
    });
  },
);
