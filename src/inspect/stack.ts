/** What a process is doing in the kernel, in the form that UML's `stack` prints (arch/um/kernel/sysrq.c). */
import type { LinuxKernel } from './kernel.ts';
import { currentTask, type Task } from './tasks.ts';

/** THREAD_SIZE without KASAN (arch/x86/include/asm/page_64_types.h). */
const STACK_BYTES = 16 * 1024;
const WORDS_SHOWN = 32;
const WORDS_A_LINE = 4;
/** The longest instruction that calls. */
const CALL_BYTES_MAX = 7;

const hex = (value: bigint): string => value.toString(16).padStart(16, '0');

/** The words at the top of its kernel stack, and the functions that will be returned to. */
export function stackText(kernel: LinuxKernel, task: Task): string {
  const words = stackWords(kernel, task);
  const lines = ['Stack:'];
  for (let i = 0; i < Math.min(words.length, WORDS_SHOWN); i += WORDS_A_LINE) {
    lines.push(
      ` ${words
        .slice(i, Math.min(i + WORDS_A_LINE, WORDS_SHOWN))
        .map(hex)
        .join(' ')}`,
    );
  }
  lines.push('Call Trace:');
  for (const word of words) {
    if (!isReturnAddress(kernel, word)) continue;
    const symbol = kernel.symbols.at(word);
    if (symbol === undefined) continue;
    const into = (word - symbol.address).toString(16);
    lines.push(` [<${hex(word)}>] ? ${symbol.name}+0x${into}/0x${symbol.size.toString(16)}`);
  }
  return `${lines.join('\n')}\n\n`;
}

/** From the stack pointer to the stack's end. Empty for a process that runs in user space at this moment. */
function stackWords(kernel: LinuxKernel, task: Task): bigint[] {
  const { machine } = kernel;
  const isCurrent = currentTask(kernel).address === task.address;
  if (isCurrent && machine.cpl === 3) return [];
  const end = task.stack + BigInt(STACK_BYTES);
  const from = isCurrent ? machine.rsp : task.stackPointer;
  if (from < task.stack || from >= end) return [];
  const bytes = kernel.memory.readSome(from, Number(end - from));
  const words: bigint[] = [];
  for (let at = 0; at + 8 <= bytes.length; at += 8) words.push(bytes.readBigUInt64LE(at));
  return words;
}

/** Code of the kernel, behind an instruction that calls. */
function isReturnAddress(kernel: LinuxKernel, word: bigint): boolean {
  if (word <= kernel.symbol('_stext') || word > kernel.symbol('_etext')) return false;
  const before = kernel.memory.readSome(word - BigInt(CALL_BYTES_MAX), CALL_BYTES_MAX);
  if (before.length < CALL_BYTES_MAX) return false;
  // CALL rel32, or CALL r/m64, of which ModRM's middle field is 2.
  if (before[CALL_BYTES_MAX - 5] === 0xe8) return true;
  for (let length = 2; length <= CALL_BYTES_MAX; length++) {
    const at = CALL_BYTES_MAX - length;
    if (before[at] === 0xff && ((before[at + 1] ?? 0) & 0x38) === 0x10) return true;
  }
  return false;
}
