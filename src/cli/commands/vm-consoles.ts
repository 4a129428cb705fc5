/** `umlaut vm consoles VM [CONSOLE=CHANNEL…]` */
import type { Command } from 'commander';
import type { Console } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import { CommandContext } from '../context.ts';
import { formatBytes, formatTable } from '../format.ts';
import type { Io } from '../io.ts';

export function registerConsoles(vm: Command, io: Io): void {
  vm.command('consoles')
    .argument('<vm>')
    .argument(
      '[settings...]',
      "in UML's words: con1=pts, ssl0=port:9000, con2=tty:/dev/ttyUSB0, con1=none, …",
    )
    .description(
      "a VM's consoles and what they are joined to on the daemon's host; with settings, join them anew",
    )
    .action(async (name: string, settings: string[], _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      for (const { console, channel } of settings.map(parseSetting))
        await context.client.updateConsole(name, console, channel);
      context.print(await context.client.listConsoles(name), consoleTable);
    });
}

function parseSetting(text: string): { readonly console: string; readonly channel: string } {
  const equals = text.indexOf('=');
  if (equals > 0 && equals < text.length - 1)
    return { console: text.slice(0, equals), channel: text.slice(equals + 1) };
  throw new AppError('invalid_input', `${JSON.stringify(text)} is no setting of a console`, {
    field: text,
    remedy: 'Write it as con1=pts.',
  });
}

function consoleTable(consoles: readonly Console[]): string {
  const rows = consoles.map(({ name, channel, viewers, scrollback_bytes }) => [
    name,
    // Of the console device, Linux has terminals for eight ports.
    name.startsWith('con') ? `/dev/virtio-ports/${name}` : `/dev/${name}`,
    channel ?? '',
    String(viewers),
    formatBytes(scrollback_bytes),
  ]);
  return formatTable(['CONSOLE', 'IN THE GUEST', 'CHANNEL', 'VIEWERS', 'SCROLLBACK'], rows);
}
