/** The command line. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { type AppError, toAppError } from '../contracts/errors.ts';
import { EXIT, EXIT_HELP, exitCodeOf } from './exit-code.ts';
import { printable } from './format.ts';
import { DEFAULT_URL } from './home.ts';
import type { Register } from './groups.ts';
import type { Io } from './io.ts';

/**
 * Commands that run a machine in this process, by their names: with one of them as the first word, nothing else is
 * loaded, since all of it would stay in memory as long as the machine runs.
 */
const ALONE: Readonly<Record<string, () => Promise<Register>>> = {
  boot: async () => (await import('./boot.ts')).registerBoot,
};

async function groupsFor([first = '']: readonly string[]): Promise<readonly Register[]> {
  if (Object.hasOwn(ALONE, first)) return [await ALONE[first]!()];
  return (await import('./groups.ts')).GROUPS;
}

function createProgram(groups: readonly Register[], io: Io): Command {
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
  for (const register of groups) register(program, io);
  return program;
}

/** Carries out one command line (without `node` and the script). Returns the exit status. */
export async function runCli(args: readonly string[], io: Io): Promise<number> {
  const program = createProgram(await groupsFor(args), io);
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
