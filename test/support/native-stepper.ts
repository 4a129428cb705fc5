/**
 * Runs single instructions on the host's processor, each from a full register state to a full register state.
 *
 * The program lives in its signal handler: the kernel's signal frame holds all registers, so the handler
 * saves the outcome of one case, writes the state of the next into the frame, with the trap flag set, and
 * returns; the processor runs one instruction and traps back, or faults back. (Linux: rt_sigframe, `struct
 * sigcontext` in arch/x86/include/uapi/asm/sigcontext.h.)
 */
import {
  CODE_BYTES,
  FXSAVE_BYTES,
  FXSAVE_STATE_BYTES,
  INPUT,
  OUTPUT,
  PLACE,
  WINDOW_BYTES,
} from '../vectors/layout.ts';
import { runNative } from './native-elf.ts';

/** The program's own variables, 64 bits each. */
const VARIABLES = 0x0f00_0000;
const VARIABLE = {
  INPUT: VARIABLES,
  OUTPUT: VARIABLES + 8,
  CASES_LEFT: VARIABLES + 16,
  STACK: VARIABLES + 24,
  RUNNING: VARIABLES + 32,
  /** stack_t */
  ALTERNATE_STACK: VARIABLES + 64,
  /** struct kernel_sigaction */
  ACTION: VARIABLES + 128,
} as const;
const SIGNAL_STACK = 0x0f10_0000;
const SIGNAL_STACK_BYTES = 0x1_0000;
const SYSTEM_CALL = { MMAP: 9, RT_SIGACTION: 13, RT_SIGRETURN: 15, SIGALTSTACK: 131 } as const;
/** SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV */
const SIGNALS = [4, 5, 7, 8, 11];
/** SA_SIGINFO, SA_RESTORER, SA_ONSTACK */
const ACTION_FLAGS = 0x0c00_0004;
/** Offsets in the frame's ucontext. */
const CONTEXT = {
  REGISTERS: 40,
  RIP: 40 + 16 * 8,
  RFLAGS: 40 + 17 * 8,
  TRAP: 40 + 20 * 8,
  FPSTATE: 40 + 23 * 8,
} as const;
const CONTEXT_REGISTER_BYTES = 23 * 8;
const LOADED_REGISTER_BYTES = 18 * 8;
/** Where XSTATE_BV is in the extended frame: bits 0 and 1 say that the x87 and SSE state is not initial. */
const XSTATE_BV = 512;
const TRAP_FLAG = 0x100;

const u32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
const jump = (opcode: number[], body: readonly number[]): number[] => [
  ...opcode,
  ...u32(body.length),
  ...body,
];

/** mov r32, imm32 for registers 0…7 */
const movImm = (register: number, value: number): number[] => [0xb8 + register, ...u32(value)];
/** mov r64, [absolute] and mov [absolute], r64 for registers 0…7 */
const load = (register: number, at: number): number[] => [0x48, 0x8b, 0x04 + register * 8, 0x25, ...u32(at)];
const store = (register: number, at: number): number[] => [0x48, 0x89, 0x04 + register * 8, 0x25, ...u32(at)];
/** mov qword [absolute], imm32 */
const storeImm = (at: number, value: number): number[] => [0x48, 0xc7, 0x04, 0x25, ...u32(at), ...u32(value)];
/** mov r64, [rbx + offset], lea r64, [rbx + offset], mov [rbx + offset], r64 */
const loadContext = (register: number, offset: number): number[] => [
  0x48,
  0x8b,
  0x83 + register * 8,
  ...u32(offset),
];
const leaContext = (register: number, offset: number): number[] => [
  0x48,
  0x8d,
  0x83 + register * 8,
  ...u32(offset),
];
const storeContext = (register: number, offset: number): number[] => [
  0x48,
  0x89,
  0x83 + register * 8,
  ...u32(offset),
];
const RAX = 0;
const RCX = 1;
const RDX = 2;
const RSP = 4;
const RSI = 6;
const RDI = 7;
const syscall = [0x0f, 0x05];
/** rep movsb of a constant length: from rsi to rdi. */
const copy = (bytes: number): number[] => [...movImm(RCX, bytes), 0xf3, 0xa4];
/** add rsi, imm32 and add rdi, imm32 */
const skipInput = (bytes: number): number[] => [0x48, 0x81, 0xc6, ...u32(bytes)];
const skipOutput = (bytes: number): number[] => [0x48, 0x81, 0xc7, ...u32(bytes)];

function mapPages(at: number, bytes: number, protection = 7): number[] {
  return [
    ...movImm(RAX, SYSTEM_CALL.MMAP),
    ...movImm(RDI, at),
    ...movImm(RSI, bytes),
    ...movImm(RDX, protection), // PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4
    ...[0x41, 0xba, ...u32(0x8032)], // mov r10d, private | fixed | anonymous | populate
    ...[0x49, 0xc7, 0xc0, ...u32(0xffff_ffff)], // mov r8, -1
    ...[0x45, 0x31, 0xc9], // xor r9d, r9d
    ...syscall,
  ];
}

/** Saves the outcome of the case that ran, in OUTPUT's format. */
const saveOutcome = [
  ...load(RDI, VARIABLE.OUTPUT),
  ...loadContext(RSI, CONTEXT.FPSTATE),
  ...copy(FXSAVE_BYTES),
  ...leaContext(RSI, CONTEXT.REGISTERS),
  ...copy(CONTEXT_REGISTER_BYTES),
  ...skipOutput(OUTPUT.WINDOW - OUTPUT.REGISTERS - CONTEXT_REGISTER_BYTES),
  ...movImm(RSI, PLACE.WINDOW),
  ...copy(WINDOW_BYTES),
  ...store(RDI, VARIABLE.OUTPUT),
];

/** Writes the next case, in INPUT's format, into the frame and the test's memory. */
const loadCase = [
  ...storeImm(VARIABLE.RUNNING, 1),
  ...load(RSI, VARIABLE.INPUT),
  ...loadContext(RDI, CONTEXT.FPSTATE),
  ...[0x48, 0x83, 0x8f, ...u32(XSTATE_BV), 3], // or qword [rdi + XSTATE_BV], 3
  ...copy(FXSAVE_STATE_BYTES),
  ...skipInput(INPUT.REGISTERS - FXSAVE_STATE_BYTES),
  ...leaContext(RDI, CONTEXT.REGISTERS),
  ...copy(LOADED_REGISTER_BYTES),
  ...skipInput(INPUT.CODE - INPUT.REGISTERS - LOADED_REGISTER_BYTES),
  ...movImm(RDI, PLACE.CODE),
  ...copy(CODE_BYTES),
  ...movImm(RDI, PLACE.WINDOW),
  ...copy(WINDOW_BYTES),
  ...store(RSI, VARIABLE.INPUT),
  ...[0x48, 0x81, 0x8b, ...u32(CONTEXT.RFLAGS), ...u32(TRAP_FLAG)], // or qword [rbx + RFLAGS], TF
  0xc3,
];

/** All cases done: leave the handler to `finish` on the stack that the program began with. */
const leave = (codeAddressRegister: number[]): number[] => [
  ...codeAddressRegister,
  ...storeContext(RAX, CONTEXT.RIP),
  ...load(RAX, VARIABLE.STACK),
  ...storeContext(RAX, CONTEXT.REGISTERS + 15 * 8),
  ...movImm(RAX, 0x202),
  ...storeContext(RAX, CONTEXT.RFLAGS),
  0xc3,
];

/** The signal handler: rdx = ucontext. A repeated string instruction traps after each turn and goes on. */
function handler(finishOffset: (at: number) => number[]): number[] {
  const next = (prefix: number): number[] => {
    const last = leave(finishOffset(prefix));
    return [
      ...[0x48, 0xff, 0x0c, 0x25, ...u32(VARIABLE.CASES_LEFT)], // dec qword [CASES_LEFT]
      ...jump([0x0f, 0x89], last), // jns past it
      ...loadCase,
    ];
  };
  const start = [0x48, 0x89, 0xd3, 0xfc]; // mov rbx, rdx; cld
  const repeating = [
    ...[0x48, 0x81, 0xbb, ...u32(CONTEXT.RIP), ...u32(PLACE.CODE)], // cmp qword [rbx + RIP], CODE
    ...[0x75, 11], // jne
    ...[0x48, 0x83, 0xbb, ...u32(CONTEXT.TRAP), 1], // cmp qword [rbx + TRAP], 1
    ...[0x75, 1], // jne
    0xc3,
  ];
  const running = [...repeating, ...saveOutcome];
  const test = [0x48, 0x83, 0x3c, 0x25, ...u32(VARIABLE.RUNNING), 0]; // cmp qword [RUNNING], 0
  const before = [...start, ...test, ...jump([0x0f, 0x84], running)];
  return [...before, ...next(before.length)];
}

/** The whole program for `cases` cases; called as `runNative` says. */
function program(cases: number): Uint8Array {
  const restorer = [...movImm(RAX, SYSTEM_CALL.RT_SIGRETURN), ...syscall];
  // Layout: main | restorer | handler. `leaf` gives the address of something by its distance from here.
  const lea = (register: number, distance: number): number[] => [
    0x48,
    0x8d,
    0x05 + register * 8,
    ...u32(distance),
  ];
  const main = (size: number): number[] => {
    const code = [
      ...[0x49, 0x89, 0xf4, 0x49, 0x89, 0xfd], // mov r12, rsi; mov r13, rdi
      ...mapPages(VARIABLES, 4096),
      ...mapPages(SIGNAL_STACK, SIGNAL_STACK_BYTES),
      ...mapPages(PLACE.CODE_PAGE, 4096),
      ...mapPages(PLACE.DATA_PAGE, 8192),
      ...mapPages(PLACE.READ_ONLY, 4096, 1),
      ...[0x4c, 0x89, 0x24, 0x25, ...u32(VARIABLE.INPUT)], // mov [INPUT], r12
      ...[0x4c, 0x89, 0x2c, 0x25, ...u32(VARIABLE.OUTPUT)], // mov [OUTPUT], r13
      ...storeImm(VARIABLE.CASES_LEFT, cases),
      ...store(RSP, VARIABLE.STACK),
      ...storeImm(VARIABLE.ALTERNATE_STACK, SIGNAL_STACK),
      ...storeImm(VARIABLE.ALTERNATE_STACK + 16, SIGNAL_STACK_BYTES),
      ...movImm(RAX, SYSTEM_CALL.SIGALTSTACK),
      ...movImm(RDI, VARIABLE.ALTERNATE_STACK),
      ...[0x31, 0xf6],
      ...syscall,
      ...storeImm(VARIABLE.ACTION + 8, ACTION_FLAGS),
    ];
    const withAddress = (target: number, at: number): void => {
      code.push(...lea(RAX, target - code.length - 7), ...store(RAX, at));
    };
    withAddress(size + restorer.length, VARIABLE.ACTION);
    withAddress(size, VARIABLE.ACTION + 16);
    for (const signal of SIGNALS) {
      code.push(...movImm(RAX, SYSTEM_CALL.RT_SIGACTION), ...movImm(RDI, signal));
      code.push(...movImm(RSI, VARIABLE.ACTION), 0x31, 0xd2, 0x41, 0xba, ...u32(8), ...syscall);
    }
    // The first trap starts the first case; the last comes back behind it.
    code.push(0xcc, 0xc3);
    return code;
  };
  const size = main(0).length;
  const finish = size - 1;
  const handlerStart = size + restorer.length;
  const body = handler((before) => {
    // Inside the handler: dec is 8 bytes, the jump 6, then this lea of 7.
    const here = handlerStart + before + 8 + 6 + 7;
    return lea(RAX, finish - here);
  });
  return Uint8Array.from([...main(size), ...restorer, ...body]);
}

/**
 * Runs cases on the host's processor.
 * @param input records in INPUT's format, one after the other
 * @returns as many records in OUTPUT's format
 */
export function stepNative(input: Uint8Array): Uint8Array {
  const cases = input.length / INPUT.BYTES;
  return runNative(program(cases), input, { outputBytes: cases * OUTPUT.BYTES });
}
