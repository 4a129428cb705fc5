/** `umlaut mconsole VM COMMAND…` */
import type { Command } from 'commander';
import { CommandContext } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import { printableLines } from '../format.ts';
import type { Io } from '../io.ts';

export function registerMconsole(program: Command, io: Io): void {
  program
    .command('mconsole')
    .argument('<vm>')
    .argument('<command...>', 'version, help, config ubd0, sysrq h, …')
    .description("send a command of UML's management console; prints the reply")
    .action(async (vm: string, words: string[], _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      const result = await context.client.mconsole(vm, words.join(' '));
      context.print(result, ({ ok, text }) => `${ok ? 'OK' : 'ERR'} ${printableLines(text)}\n`);
      if (!result.ok) io.exitCode = EXIT.error;
    });
}
