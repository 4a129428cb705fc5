/**
 * The kernel under generated programs: it skips instructions that fault, brings back a page that is missing, and
 * changes translations when asked to.
 */
import { bytes } from '../../src/engine/testing/guest.ts';
import { CODE_VERSIONS, HIGH_HALF, KERNEL_DATA, PLACE, PML4, PTE, SELECTOR, VECTOR } from './places.ts';

/** Vectors that push an error code. */
export const WITH_ERROR_CODE = new Set([8, 10, 11, 12, 13, 14, 17, 21]);
const EXCEPTIONS = 32;
const STUB_BYTES = 16;
const MXCSR_DEFAULT = 0x1f80;

/**
 * Labels: COUNT and LOG of exceptions at 0xd000 and 0xd800, TABLES where the page tables are seen, less 0x1000.
 * An exception is written down. A page fault on a changing page gives that page its first translation; other
 * faults skip the instruction by LENGTHS, or begin the program again where no instruction is known.
 */
const KERNEL = bytes(`
  50                         ; exception: push rax
  51                         ; push rcx
  52                         ; push rdx
  fc                         ; cld
  8b 44 24 18                ; mov eax, [rsp+24]
  8b 0c 25 00 d0 00 00       ; mov ecx, [COUNT]
  ff 04 25 00 d0 00 00       ; inc dword [COUNT]
  83 e1 1f                   ; and ecx, 31
  c1 e1 05                   ; shl ecx, 5
  48 89 81 00 d8 00 00       ; mov [rcx+LOG], rax
  48 8b 54 24 20             ; mov rdx, [rsp+32]
  48 89 91 08 d8 00 00       ; mov [rcx+LOG+8], rdx
  48 8b 54 24 28             ; mov rdx, [rsp+40]
  48 89 91 10 d8 00 00       ; mov [rcx+LOG+16], rdx
  0f 20 d2                   ; mov rdx, cr2
  48 89 91 18 d8 00 00       ; mov [rcx+LOG+24], rdx
  83 f8 0e                   ; cmp eax, 14
  74 7b                      ; je pagefault
  83 f8 01                   ; cmp eax, 1
  74 64                      ; je debug
  83 f8 10                   ; cmp eax, 16
  75 02                      ; jne notx87
  db e2                      ; fnclex
  83 f8 13                   ; notx87: cmp eax, 19
  75 08                      ; jne skip
  0f ae 14 25 20 d0 00 00    ; ldmxcsr [MXCSR]
  8b 4c 24 28                ; skip: mov ecx, [rsp+40]
  81 e9 00 00 01 00          ; sub ecx, 0x10000
  81 f9 00 00 01 00          ; cmp ecx, 0x10000
  73 19                      ; jae restart
  0f b6 89 00 00 04 00       ; movzx ecx, byte [rcx+0x40000]
  85 c9                      ; test ecx, ecx
  74 0e                      ; jz restart
  48 01 4c 24 28             ; add [rsp+40], rcx
  5a                         ; out: pop rdx
  59                         ; pop rcx
  58                         ; pop rax
  48 83 c4 10                ; add rsp, 16
  48 cf                      ; iretq
  48 8b 0c 25 08 d0 00 00    ; restart: mov rcx, [ENTRY]
  48 89 4c 24 28             ; mov [rsp+40], rcx
  48 8b 0c 25 10 d0 00 00    ; mov rcx, [TOP]
  48 89 4c 24 40             ; mov [rsp+64], rcx
  48 c7 44 24 38 02 02 00 00 ; mov qword [rsp+56], 0x202
  eb d2                      ; jmp out
  f6 04 25 00 d0 00 00 07    ; debug: test byte [COUNT], 7
  75 c8                      ; jnz out
  0f ba 74 24 38 08          ; btr dword [rsp+56], 8
  eb c0                      ; jmp out
  48 89 d1                   ; pagefault: mov rcx, rdx
  48 c1 e1 11                ; shl rcx, 17
  48 c1 e9 1f                ; shr rcx, 31
  48 83 f9 0a                ; cmp rcx, 0xa
  75 8d                      ; jne skip
  c1 ea 0c                   ; shr edx, 12
  83 e2 03                   ; and edx, 3
  89 d0                      ; mov eax, edx
  c1 e0 02                   ; shl eax, 2
  48 8b 04 c5 80 d0 00 00    ; mov rax, [rax*8+VALUES]
  0f 20 d9                   ; mov rcx, cr3
  48 8d 0c d1                ; lea rcx, [rcx+rdx*8]
  48 89 81 40 21 06 00       ; mov [rcx+TABLES+0x28*8], rax
  0f 20 d2                   ; mov rdx, cr2
  0f 01 3a                   ; invlpg [rdx]
  48 0f ba fa 2f             ; btc rdx, 47
  48 c1 e2 10                ; shl rdx, 16
  48 c1 fa 10                ; sar rdx, 16
  0f 01 3a                   ; invlpg [rdx]
  e9 73 ff ff ff             ; jmp out
  90 90 90 90 90 90 90 90 90 90 90 90 90 90 ; to the next 16 bytes
  83 e0 03                   ; service: and eax, 3
  83 f8 02                   ; cmp eax, 2
  74 40                      ; je space
  77 3d                      ; ja done
  89 f9                      ; mov ecx, edi
  83 e1 07                   ; and ecx, 7
  89 f2                      ; mov edx, esi
  83 e2 03                   ; and edx, 3
  8d 14 8a                   ; lea edx, [rdx+rcx*4]
  48 8b 14 d5 80 d0 00 00    ; mov rdx, [rdx*8+VALUES]
  8b 0c 8d 40 d0 00 00       ; mov ecx, [rcx*4+PAGES]
  0f 20 d8                   ; mov rax, cr3
  48 89 94 c8 00 20 06 00    ; mov [rax+rcx*8+TABLES], rdx
  c1 e1 0c                   ; shl ecx, 12
  0f 01 39                   ; invlpg [rcx]
  48 0f ba e9 2f             ; bts rcx, 47
  48 c1 e1 10                ; shl rcx, 16
  48 c1 f9 10                ; sar rcx, 16
  0f 01 39                   ; invlpg [rcx]
  c3                         ; done: ret
  0f 20 d8                   ; space: mov rax, cr3
  35 00 40 00 00             ; xor eax, 0x4000
  0f 22 d8                   ; mov cr3, rax
  c3                         ; ret
  90 90 90 90 90 90 90 90 90 90 90 90 ; to the next 16 bytes
  51                         ; gate: push rcx
  52                         ; push rdx
  e8 99 ff ff ff             ; call service
  5a                         ; pop rdx
  59                         ; pop rcx
  48 cf                      ; iretq
  90 90 90 90 90 ; to the next 16 bytes
  48 89 24 25 18 d0 00 00    ; syscall_entry: mov [SAVED], rsp
  bc 00 00 01 00             ; mov esp, 0x10000
  41 53                      ; push r11
  51                         ; push rcx
  52                         ; push rdx
  e8 7a ff ff ff             ; call service
  5a                         ; pop rdx
  59                         ; pop rcx
  41 5b                      ; pop r11
  48 8b 24 25 18 d0 00 00    ; mov rsp, [SAVED]
  48 0f 07                   ; o64 sysret
  90 90 90 90 90 90 90 90 90 90 90 ; to the next 16 bytes
  48 ff 04 25 28 d0 00 00    ; irq: inc qword [IRQS]
  48 cf                      ; iretq
  90 90 90 90 90 90 ; to the next 16 bytes
  f4                         ; finish: hlt
  eb fd                      ; jmp finish
`);
/** Offsets in the kernel. */
const ENTRY = { exception: 0, service: 0x180, syscall: 0x190, interrupt: 0x1c0, finish: 0x1d0 } as const;

/** An IRETQ. */
export const RETURN = BigInt(PLACE.KERNEL + 0x1c8);
/** Where SYSCALL enters. */
export const SYSCALL_ENTRY = BigInt(PLACE.KERNEL + ENTRY.syscall);

const GDT = [
  0n,
  0n,
  0x00af_9b00_0000_ffffn, // 64-bit code, level 0
  0x00cf_9300_0000_ffffn, // data, level 0
  0x00cf_fb00_0000_ffffn, // 32-bit code, level 3
  0x00cf_f300_0000_ffffn, // data, level 3
  0x00af_fb00_0000_ffffn, // 64-bit code, level 3
  0x0000_8b00_0000_0067n | (BigInt(PLACE.TSS) << 16n),
  0n,
];
export const GDT_LIMIT = GDT.length * 8 - 1;
export const IDT_LIMIT = 0x82 * 16 - 1;

/** Writes kernel, descriptors and page tables into RAM. `exceptionStack`: exceptions have a stack of their own. */
export function writeKernel(ram: Uint8Array, exceptionStack: boolean): void {
  const view = new DataView(ram.buffer, ram.byteOffset, ram.length);
  ram.set(KERNEL, PLACE.KERNEL);
  GDT.forEach((descriptor, n) => {
    view.setBigUint64(PLACE.GDT + n * 8, descriptor, true);
  });
  view.setBigUint64(PLACE.TSS + 4, BigInt(PLACE.KERNEL_STACK), true);
  view.setBigUint64(PLACE.TSS + 0x24, BigInt(PLACE.EXCEPTION_STACK), true);
  const gate = (vector: number, handler: number, type: number): void => {
    view.setUint16(PLACE.IDT + vector * 16, handler, true);
    view.setUint16(PLACE.IDT + vector * 16 + 2, SELECTOR.CODE64, true);
    view.setUint16(PLACE.IDT + vector * 16 + 4, type, true);
  };
  for (let vector = 0; vector < EXCEPTIONS; vector++) {
    const at = PLACE.STUBS + vector * STUB_BYTES;
    ram.set(stub(vector, at), at);
    // INT3 and INTO are for level 3 too
    const level = vector === 3 || vector === 4 ? 0xee00 : 0x8e00;
    gate(vector, at, level | (exceptionStack ? 1 : 0));
  }
  gate(VECTOR.INTERRUPT, PLACE.KERNEL + ENTRY.interrupt, exceptionStack ? 0x8e01 : 0x8e00);
  gate(VECTOR.SERVICE, PLACE.KERNEL + ENTRY.service, 0xee00);
  gate(VECTOR.FINISH, PLACE.KERNEL + ENTRY.finish, 0xee00);
  view.setUint32(KERNEL_DATA.MXCSR, MXCSR_DEFAULT, true);
  writeTables(view);
  writeTranslations(view);
}

/** push 0 where the CPU pushes nothing; push vector; jmp exception */
function stub(vector: number, at: number): number[] {
  const head = [...(WITH_ERROR_CODE.has(vector) ? [] : [0x6a, 0]), 0x6a, vector];
  const distance = PLACE.KERNEL + ENTRY.exception - (at + head.length + 5);
  return [...head, 0xe9, distance & 0xff, (distance >> 8) & 0xff, 0, 0];
}

const USER_PAGE = PTE.P | PTE.W | PTE.U;

/** Two address spaces that differ in what the changing pages show. */
function writeTables(view: DataView): void {
  for (const [space, pml4] of PML4.entries()) {
    for (const slot of [0, 256]) view.setBigUint64(pml4 + slot * 8, BigInt(pml4 + 0x1000) | USER_PAGE, true);
    view.setBigUint64(pml4 + 0x1000, BigInt(pml4 + 0x2000) | USER_PAGE, true);
    view.setBigUint64(pml4 + 0x2000, BigInt(pml4 + 0x3000) | USER_PAGE, true);
    for (let page = 1; page < 0x68; page++) {
      view.setBigUint64(pml4 + 0x3000 + page * 8, entryOf(page << 12, space), true);
    }
  }
}

function entryOf(linear: number, space: number): bigint {
  const same = BigInt(linear);
  if (linear >= PLACE.TABLE_VIEW) return BigInt(linear - PLACE.TABLE_VIEW + PLACE.TABLES) | PTE.P | PTE.W;
  if (linear < PLACE.CODE) return linear < PLACE.TABLES_END ? 0n : same | PTE.P | PTE.W | PTE.G;
  if (linear === CODE_VERSIONS) return BigInt(space === 0 ? linear : PLACE.OTHER_CODE) | USER_PAGE;
  if (linear < PLACE.FLIPPED) return same | USER_PAGE | PTE.G;
  if (linear < PLACE.READ_ONLY)
    return BigInt(space === 0 ? linear : linear - PLACE.FLIPPED + PLACE.OTHER) | USER_PAGE;
  if (linear === PLACE.READ_ONLY) return same | PTE.P | PTE.U;
  if (linear === PLACE.MISSING) return 0n;
  if (linear === PLACE.SUPERVISOR) return same | PTE.P | PTE.W;
  if (linear === PLACE.NOT_EXECUTABLE) return same | USER_PAGE | PTE.NX;
  if (linear >= PLACE.ALIAS) return BigInt(linear - PLACE.ALIAS + PLACE.CODE) | USER_PAGE;
  return same | (linear >= PLACE.LENGTHS ? PTE.P | PTE.U : USER_PAGE);
}

/** What can be asked of the kernel for pages 0 to 3 of FLIPPED, and for the code page with two versions (4 to 7). */
export function translation(which: number, value: number): { readonly page: number; readonly entry: bigint } {
  if (which >= PLACE.FLIPPED_PAGES) {
    return {
      page: CODE_VERSIONS,
      entry: BigInt(value % 2 === 0 ? CODE_VERSIONS : PLACE.OTHER_CODE) | USER_PAGE,
    };
  }
  const page = PLACE.FLIPPED + which * 4096;
  const other = BigInt(PLACE.OTHER + which * 4096);
  const entries = [BigInt(page) | USER_PAGE, other | USER_PAGE, BigInt(page) | PTE.P | PTE.U, 0n];
  return { page, entry: entries[value]! };
}

function writeTranslations(view: DataView): void {
  for (let which = 0; which < 8; which++) {
    view.setUint32(KERNEL_DATA.PAGES + which * 4, translation(which, 0).page >> 12, true);
    for (let value = 0; value < 4; value++) {
      view.setBigUint64(KERNEL_DATA.VALUES + (which * 4 + value) * 8, translation(which, value).entry, true);
    }
  }
}

/** Where the kernel sees the page table entry of a page below 2 MiB of an address space. */
export const entryAddress = (space: number, page: number): number =>
  PLACE.TABLE_VIEW + PML4[space]! - PLACE.TABLES + 0x3000 + (page >> 12) * 8;

/** The same page at the other end of the address space. */
export const inHighHalf = (linear: number): bigint => HIGH_HALF | BigInt(linear);
