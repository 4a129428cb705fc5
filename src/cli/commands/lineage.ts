/** `umlaut disk tree`, `usage`, `sharers`, `rebase`, `flatten`, `repair`, and `umlaut image dependents`. */
import type { Command } from 'commander';
import type { DiskSharers, DiskTree, DiskUsage, Layer, LayerUser } from '../../contracts/api/index.ts';
import { CommandContext } from '../context.ts';
import { formatBytes, formatTable, printable } from '../format.ts';
import type { Io } from '../io.ts';
import { parseBytes } from '../parse.ts';

export function registerLineage(program: Command, io: Io): void {
  // INVARIANT: program.ts registers these groups before this.
  const [disk, image] = ['disk', 'image'].map(
    (name) => program.commands.find((command) => command.name() === name)!,
  ) as [Command, Command];
  disk
    .command('tree')
    .argument('<disk>')
    .description('the layers that a disk is made of, and what else has come of them')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.getDiskTree(name), treeText);
    });
  disk
    .command('usage')
    .argument('<disk>')
    .description('what of each layer is seen by one, by several, by nobody')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.getDiskUsage(name), usageTable);
    });
  disk
    .command('sharers')
    .argument('<disk>')
    .argument('<offset>', 'bytes from its start, such as 1M', parseBytes)
    .description('who shares the block at an offset')
    .action(async (name: string, offset: number, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.getDiskSharers(name, offset), sharersText);
    });
  image
    .command('dependents')
    .argument('<image>')
    .description('what needs an image')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.getImageDependents(name), ({ dependents }) =>
        formatTable(
          ['TYPE', 'NAME', 'ID', 'VM'],
          dependents.map((row) => [row.type, row.name, row.id, row.vm_id ?? '']),
        ),
      );
    });
  registerChanges(disk, io);
}

interface WaitOption {
  readonly wait: boolean;
}

function registerChanges(disk: Command, io: Io): void {
  disk
    .command('rebase')
    .argument('<disk>')
    .argument('<image>', 'at least as large as the disk')
    .option('--no-wait', 'do not wait for the end')
    .description('put a disk over another image; its content stays')
    .action(async (name: string, image: string, { wait }: WaitOption, command: Command) => {
      const context = new CommandContext(command, io);
      const operation = await context.finish(await context.client.rebaseDisk(name, image), wait);
      context.print(operation, () => (wait ? `${name} is over ${image}\n` : `operation ${operation.id}\n`));
    });
  disk
    .command('flatten')
    .argument('<disk>')
    .option('--no-wait', 'do not wait for the end')
    .description('make a disk independent of all others')
    .action(async (name: string, { wait }: WaitOption, command: Command) => {
      const context = new CommandContext(command, io);
      const operation = await context.finish(await context.client.flattenDisk(name), wait);
      context.print(operation, () => (wait ? `${name} is independent\n` : `operation ${operation.id}\n`));
    });
  disk
    .command('repair')
    .argument('<disk>')
    .description('accept files under a disk whose modification time has changed, and not their content')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.repairDisk(name), ({ repaired }) =>
        repaired.length === 0
          ? 'nothing to repair\n'
          : repaired.map((one) => `${one.layer_id}: ${one.before} is ${one.after} again\n`).join(''),
      );
    });
}

const users = (list: readonly LayerUser[]): string =>
  list.map((user) => `${user.type} ${printable(user.name)}`).join(', ');

/** A layer below is to the left. */
function treeText({ layers, layer_id }: DiskTree): string {
  const depth = new Map<string, number>();
  const line = (layer: Layer): string => {
    const at = layer.parent_id === null ? 0 : (depth.get(layer.parent_id) ?? 0) + 1;
    depth.set(layer.id, at);
    const what = layer.users.length === 0 ? '' : `  ${users(layer.users)}`;
    const state = layer.state === 'ready' ? '' : `  ${layer.state}`;
    const mark = layer.id === layer_id ? '  *' : '';
    return `${'  '.repeat(at)}${layer.kind} ${layer.id}  ${formatBytes(layer.stored_bytes)}${state}${what}${mark}\n`;
  };
  return layers.map(line).join('');
}

function usageTable({ layers }: DiskUsage): string {
  const rows = layers.map((layer) => [
    layer.layer_id,
    layer.kind,
    formatBytes(layer.stored_bytes),
    formatBytes(layer.unique_bytes),
    formatBytes(layer.shared_bytes),
    formatBytes(layer.hidden_bytes),
  ]);
  return formatTable(['LAYER', 'KIND', 'ON HOST', 'UNIQUE', 'SHARED', 'HIDDEN'], rows);
}

function sharersText({ layer_id, kind, offset, users: list }: DiskSharers): string {
  return `${offset} is in ${kind} ${layer_id}: ${users(list)}\n`;
}
