/**
 * Runs bare x86-64 machine code on the host's own processor, as the reference that the emulator is compared with.
 *
 * There may be no compiler on the machine, so the program is an ELF file written here: the smallest static
 * executable (System V ABI, AMD64 supplement) with one segment that is readable, writable and executable.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Load address of the program, chosen to stay clear of low addresses that the kernel may refuse. */
const BASE = 0x40_0000;
const HEADERS = 0x40 + 0x38;
/** Linux system call numbers for x86-64. */
const SYS_READ = 0;
const SYS_WRITE = 1;
const SYS_EXIT = 60;

/** True when machine code for x86-64 can run here. */
export const canRunNative = process.platform === 'linux' && process.arch === 'x64';

/** What the code gets besides its input. */
export interface NativeOptions {
  /** Size of the zeroed output buffer in bytes; all of it is returned. Default: the size of the input. */
  readonly outputBytes?: number;
  /** Size in bytes of a zeroed scratch area below the initial stack pointer. Default 64 KiB. */
  readonly stackBytes?: number;
  /** Milliseconds after which the program is killed. Default 10000. */
  readonly timeout?: number;
}

const align = (value: number, to: number): number => Math.ceil(value / to) * to;

function imm32(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, (value >>> 24) & 0xff];
}

/** mov r32, imm32 (zero-extends to the 64-bit register), for the registers 0…7. */
function movImm(register: number, value: number): number[] {
  return [0xb8 + register, ...imm32(value)];
}

const RAX = 0;
const RDX = 2;
const RSP = 4;
const RSI = 6;
const RDI = 7;

interface Addresses {
  readonly input: number;
  readonly inputBytes: number;
  readonly output: number;
  readonly outputBytes: number;
  readonly stackTop: number;
}

/** Start-up code: reads all input, calls what follows it, writes all output, exits with status 0. */
function startup(at: Addresses): number[] {
  const exit = [...movImm(RAX, SYS_EXIT), 0x31, 0xff, 0x0f, 0x05];
  // The write loop keeps what is left in rdx and where in rsi.
  const write = [
    ...movImm(RSI, at.output),
    ...movImm(RDX, at.outputBytes),
    ...[0x85, 0xd2, 0x74, 23], // next: test edx, edx; jz exit
    ...movImm(RAX, SYS_WRITE),
    ...movImm(RDI, 1),
    ...[0x0f, 0x05], // syscall
    ...[0x48, 0x85, 0xc0], // test rax, rax
    ...[0x7e, 6], // jle exit
    ...[0x01, 0xc6, 0x29, 0xc2], // add esi, eax; sub edx, eax
    ...[0xeb, 0xe5], // jmp next
    ...exit,
  ];
  const read = [
    ...movImm(RSP, at.stackTop),
    ...movImm(RSI, at.input),
    ...movImm(RDX, at.inputBytes),
    ...[0x85, 0xd2, 0x74, 20], // next: test edx, edx; jz done
    ...movImm(RAX, SYS_READ),
    ...[0x31, 0xff], // xor edi, edi
    ...[0x0f, 0x05], // syscall
    ...[0x48, 0x85, 0xc0], // test rax, rax
    ...[0x7e, 6], // jle done
    ...[0x01, 0xc6, 0x29, 0xc2], // add esi, eax; sub edx, eax
    ...[0xeb, 0xe8], // jmp next
  ];
  const call = [...movImm(RSI, at.input), ...movImm(RDI, at.output), 0xe8];
  return [...read, ...call, ...imm32(write.length), ...write];
}

/** The ELF header and the one program header. */
function headers(fileBytes: number, memoryBytes: number): Uint8Array {
  const bytes = new Uint8Array(HEADERS);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(0x10, 2, true); // ET_EXEC
  view.setUint16(0x12, 62, true); // EM_X86_64
  view.setUint32(0x14, 1, true);
  view.setBigUint64(0x18, BigInt(BASE + HEADERS), true); // entry
  view.setBigUint64(0x20, 0x40n, true); // program headers
  view.setUint16(0x34, 0x40, true);
  view.setUint16(0x36, 0x38, true);
  view.setUint16(0x38, 1, true);
  view.setUint32(0x40, 1, true); // PT_LOAD
  view.setUint32(0x44, 7, true); // readable, writable, executable
  view.setBigUint64(0x50, BigInt(BASE), true);
  view.setBigUint64(0x58, BigInt(BASE), true);
  view.setBigUint64(0x60, BigInt(fileBytes), true);
  view.setBigUint64(0x68, BigInt(memoryBytes), true);
  view.setBigUint64(0x70, 0x1000n, true);
  return bytes;
}

/** An executable that runs `code` between reading `inputBytes` from stdin and writing the output to stdout. */
export function nativeElf(code: Uint8Array, inputBytes: number, options: NativeOptions = {}): Uint8Array {
  const outputBytes = options.outputBytes ?? inputBytes;
  const place = (startupBytes: number): Addresses => {
    const input = BASE + align(HEADERS + startupBytes + code.length, 4096);
    const output = input + align(inputBytes, 4096);
    const stackTop = output + align(outputBytes, 4096) + align(options.stackBytes ?? 65536, 4096);
    return { input, inputBytes, output, outputBytes, stackTop };
  };
  const size = startup(place(0)).length;
  const at = place(size);
  const fileBytes = HEADERS + size + code.length;
  const file = new Uint8Array(fileBytes);
  file.set(headers(fileBytes, at.stackTop - BASE));
  file.set(startup(at), HEADERS);
  file.set(code, HEADERS + size);
  return file;
}

/**
 * Runs machine code natively in a child process.
 * @param code called with rsi = input buffer, rdi = output buffer (both page-aligned) and a stack; ends with `ret`;
 *   it may change every register but must keep the direction flag clear
 * @param input contents of the input buffer
 * @returns the output buffer
 * @throws Error if the program is killed by a signal or writes less than the whole output buffer
 */
export function runNative(code: Uint8Array, input: Uint8Array, options: NativeOptions = {}): Uint8Array {
  const outputBytes = options.outputBytes ?? input.length;
  const folder = mkdtempSync(join(tmpdir(), 'native-'));
  try {
    const path = join(folder, 'program');
    writeFileSync(path, nativeElf(code, input.length, options), { mode: 0o755 });
    const result = spawnSync(path, {
      input,
      maxBuffer: outputBytes + 1,
      timeout: options.timeout ?? 10_000,
    });
    if (result.error) throw result.error;
    if (result.signal) throw new Error(`native program ended by ${result.signal}`);
    if (result.stdout.length !== outputBytes) {
      throw new Error(`native program wrote ${result.stdout.length} of ${outputBytes} bytes`);
    }
    return new Uint8Array(result.stdout);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
