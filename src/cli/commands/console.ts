/** `umlaut console VM` */
import type { Command } from 'commander';
import { CommandContext } from '../context.ts';
import type { Io } from '../io.ts';
import { attachTerminal } from '../terminal.ts';

interface ConsoleOptions {
  readonly console: string;
  readonly readOnly?: boolean;
}

export function registerConsole(program: Command, io: Io): void {
  program
    .command('console')
    .argument('<vm>')
    .option('--console <name>', 'ttyS0, hvc0, …', 'ttyS0')
    .option('--read-only', 'look, do not type')
    .description("the VM's console on this terminal; Ctrl-] leaves it")
    .action(async (vm: string, options: ConsoleOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const socket = await context.client.openConsole(vm, options.console, options.readOnly === true);
      await attachTerminal(socket, process.stdin, io);
    });
}
