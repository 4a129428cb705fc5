import { AppError } from '../../contracts/errors.ts';
import type { MachineControl } from '../target.ts';
import { ERRNO, ok, refuse, requireMachine, type Verb } from '../verb.ts';

/** Keys that Linux's handler has (drivers/tty/sysrq.c), and h for its help. */
const KEYS = '0123456789bcdefghijklmnopqrstuvwxyzR';

/** What the guest's kernel puts before each line on its console; in UML's reply it is not. */
const PRINTK_TIME = /^\[ *\d+\.\d{6}\] /gm;

/** The reply is complete when the guest has printed nothing for so long … */
const SETTLED_MS = 200;
/** … or when it has not begun to print at all … */
const SILENT_MS = 4000;
/** … and in any case then. */
const COLLECT_MS_MAX = 6000;
const REPLY_BYTES_MAX = 64 * 1024;

/** The letter to send, or what is wrong with it. */
export function sysrqKey(argument: string): string | AppError {
  const key = argument === '' ? 'h' : argument;
  if (key.length === 1 && KEYS.includes(key)) return key;
  return new AppError(
    'invalid_input',
    `${JSON.stringify(argument.slice(0, 20))} is no SysRq key of the guest's kernel`,
    {
      field: 'letter',
      remedy: `use one of ${KEYS}; h prints the kernel's own list on the console`,
    },
  );
}

/** The kernel's handler does the work and prints on the console; the reply has what it printed meanwhile, as UML's has. */
export const sysrq: Verb = {
  name: 'sysrq',
  help: '    sysrq <letter> - Performs the SysRq action controlled by the letter \n',
  async run(context, argument) {
    const letter = sysrqKey(argument);
    if (letter instanceof AppError) return refuse(`${letter.message}; ${letter.remedy}`, ERRNO.EINVAL);
    requireMachine(context);
    if (context.instance.state === 'stopped') {
      throw new AppError('conflict', 'the VM is stopped: its kernel cannot handle a key', {
        remedy: 'let it go on with go',
      });
    }
    return ok(await sendAndCollect(context.instance, letter));
  },
};

async function sendAndCollect(instance: MachineControl, letter: string): Promise<string> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  let settle: () => void = () => undefined;
  const settled = new Promise<void>((resolve) => {
    settle = resolve;
  });
  let quiet: NodeJS.Timeout | undefined;
  let first: string | undefined;
  const untap = instance.consoles.tap((piece, console) => {
    // A kernel with two consoles prints everything on both.
    first ??= console;
    if (console !== first) return;
    if (bytes < REPLY_BYTES_MAX) pieces.push(piece.slice(0, REPLY_BYTES_MAX - bytes));
    bytes += piece.length;
    clearTimeout(quiet);
    quiet = setTimeout(settle, SETTLED_MS);
  });
  const latest = setTimeout(settle, COLLECT_MS_MAX);
  try {
    await instance.request({ type: 'sysrq', letter });
    quiet ??= setTimeout(settle, SILENT_MS);
    await settled;
  } finally {
    untap();
    clearTimeout(quiet);
    clearTimeout(latest);
  }
  return Buffer.concat(pieces).toString('utf8').replaceAll('\r\n', '\n').replaceAll(PRINTK_TIME, '');
}
