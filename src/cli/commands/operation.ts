/** `umlaut operation …` */
import type { Command } from 'commander';
import type { Operation } from '../../contracts/api/index.ts';
import { CommandContext } from '../context.ts';
import { formatAge, formatFields, formatTable } from '../format.ts';
import type { Io } from '../io.ts';
import { followOperation } from '../progress.ts';

export function registerOperation(program: Command, io: Io): void {
  const operation = program.command('operation').description('work in the background');
  operation
    .command('list')
    .option('--status <status>', 'pending, running, succeeded, failed, canceled')
    .description('operations, the newest first')
    .action(async (options: { status?: string }, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.listOperations(options), operationTable);
    });
  operation
    .command('show')
    .argument('<operation>')
    .description('one operation')
    .action(async (id: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.getOperation(id), operationFields);
    });
  operation
    .command('wait')
    .argument('<operation>')
    .description('wait for its end; fails with its error')
    .action(async (id: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      const now = await context.client.getOperation(id);
      context.print(await followOperation(context.client, now, io.stderr), operationFields);
    });
  operation
    .command('cancel')
    .argument('<operation>')
    .description('ask it to end')
    .action(async (id: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.cancelOperation(id), operationFields);
    });
}

function percent({ progress }: Operation): string {
  if (progress === null || progress.total === 0) return '';
  return `${Math.floor((progress.done / progress.total) * 100)}%`;
}

function resources({ resources: all }: Operation): string {
  return all.map((resource) => `${resource.type}/${resource.id}`).join(' ');
}

function operationTable(operations: readonly Operation[]): string {
  const rows = operations.map((operation) => [
    operation.id,
    operation.kind,
    operation.status,
    percent(operation),
    resources(operation),
    formatAge(operation.created_at),
  ]);
  return formatTable(['ID', 'KIND', 'STATUS', 'DONE', 'RESOURCES', 'AGE'], rows);
}

function operationFields(operation: Operation): string {
  const fields: [string, string][] = [
    ['id', operation.id],
    ['kind', operation.kind],
    ['status', operation.status],
    ['done', percent(operation)],
    ['resources', resources(operation)],
    ['created', operation.created_at],
    ['ended', operation.ended_at ?? ''],
  ];
  if (operation.error !== null) {
    fields.push(['error', `${operation.error.detail} (${operation.error.code})`]);
  }
  return formatFields(fields);
}
