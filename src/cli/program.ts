/** The command line: one row per group of commands. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { type AppError, toAppError } from '../contracts/errors.ts';
import { registerBoot } from './boot.ts';
import { registerBackup } from './commands/backup.ts';
import { registerConsole } from './commands/console.ts';
import { registerDaemon } from './commands/daemon.ts';
import { registerDisk } from './commands/disk.ts';
import { registerDiskFiles } from './commands/disk-files.ts';
import { registerDiskTransfer } from './commands/disk-transfer.ts';
import { registerEvents } from './commands/events.ts';
import { registerFirewall } from './commands/firewall.ts';
import { registerImage } from './commands/image.ts';
import { registerLineage } from './commands/lineage.ts';
import { registerLinux } from './commands/linux.ts';
import { registerMconsole } from './commands/mconsole.ts';
import { registerMoo } from './commands/moo.ts';
import { registerTap } from './commands/tap.ts';
import { registerNetwork } from './commands/network.ts';
import { registerOperation } from './commands/operation.ts';
import { registerProc } from './commands/proc.ts';
import { registerShare } from './commands/share.ts';
import { registerSnapshot } from './commands/snapshot.ts';
import { registerSwitch } from './commands/switch.ts';
import { registerTty } from './commands/tty.ts';
import { registerVm } from './commands/vm.ts';
import { EXIT, EXIT_HELP, exitCodeOf } from './exit-code.ts';
import { printable } from './format.ts';
import { DEFAULT_URL } from './home.ts';
import type { Io } from './io.ts';

const GROUPS: readonly ((program: Command, io: Io) => void)[] = [
  registerDaemon,
  registerBoot,
  registerLinux,
  registerVm,
  registerConsole,
  registerMconsole,
  registerImage,
  registerSnapshot,
  registerBackup,
  registerDisk,
  registerDiskFiles,
  registerDiskTransfer,
  registerLineage,
  registerShare,
  registerMoo,
  registerNetwork,
  registerFirewall,
  registerTap,
  registerSwitch,
  registerEvents,
  registerTty,
  registerProc,
  registerOperation,
];

function createProgram(io: Io): Command {
  const program = new Command('umlaut')
    .description('hosts virtual machines')
    .version(packageVersion())
    .option('--url <url>', `address of the daemon (default: UMLAUT_URL, else ${DEFAULT_URL})`)
    .option('--token-file <file>', 'its token (default: UMLAUT_TOKEN, else admin-token in UMLAUT_HOME)')
    .option('--json', 'print JSON')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
    })
    .showHelpAfterError('(--help shows the usage)')
    .addHelpText('after', `\n${EXIT_HELP}`)
    .exitOverride();
  for (const register of GROUPS) register(program, io);
  return program;
}

/** Carries out one command line (without `node` and the script). Returns the exit status. */
export async function runCli(args: readonly string[], io: Io): Promise<number> {
  const program = createProgram(io);
  try {
    await program.parseAsync(args, { from: 'user' });
    return Number(process.exitCode ?? io.exitCode);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    const known = toAppError(error);
    io.stderr.write(args.includes('--json') ? errorJson(known) : errorText(known));
    if (known.code === 'internal' && io.env.UMLAUT_DEBUG) io.stderr.write(`${String(known.stack)}\n`);
    return exitCodeOf(known.code);
  }
}

function errorJson(error: AppError): string {
  return `${JSON.stringify({ error: error.toPlain() }, null, 2)}\n`;
}

function errorText(error: AppError): string {
  const lines = [`error: ${printable(error.detail)} (${error.code})`];
  if (error.field !== undefined) lines.push(`  at:     ${printable(error.field)}`);
  if (error.remedy !== undefined) lines.push(`  remedy: ${printable(error.remedy)}`);
  return `${lines.join('\n')}\n`;
}

function packageVersion(): string {
  // INVARIANT: package.json has a version.
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { readonly version: string }).version;
}
