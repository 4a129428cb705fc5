/** `umlaut events` */
import { once } from 'node:events';
import type { Command } from 'commander';
import { Event } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import { CommandContext } from '../context.ts';
import { printable } from '../format.ts';
import type { Io } from '../io.ts';
import { parseCount } from '../parse.ts';

interface EventsOptions {
  readonly follow?: boolean;
  readonly after?: number;
  readonly type?: string;
}

const NORMAL_CLOSURE = 1000;

export function registerEvents(program: Command, io: Io): void {
  program
    .command('events')
    .option('--follow', 'go on with new ones as they happen')
    .option('--after <seq>', 'only those after this sequence number', parseCount)
    .option('--type <types>', 'comma-separated, such as vm.*,backup.created')
    .description('what has happened; one line each, with --json one JSON object a line')
    .action(async (options: EventsOptions, command: Command) => {
      const context = new CommandContext(command, io);
      if (options.follow === true) await follow(context, options);
      else await listAll(context, options);
    });
}

async function listAll(context: CommandContext, { after = 0, type }: EventsOptions): Promise<void> {
  let last = after;
  for (;;) {
    const page = await context.client.listEvents({ after: last, type, limit: 1000 });
    for (const event of page.items) show(context, event);
    if (page.items.length === 0 || page.last_seq === last) return;
    last = page.last_seq;
  }
}

async function follow(context: CommandContext, { after, type }: EventsOptions): Promise<void> {
  const query = { ...(after !== undefined && { after }), ...(type !== undefined && { type }) };
  const socket = await context.client.openEvents(query);
  socket.on('message', (data: Buffer) => show(context, Event.parse(JSON.parse(data.toString('utf8')))));
  const close = once(socket, 'close');
  socket.resume();
  const [code] = (await close) as [number]; // INVARIANT: ws emits the close code
  if (code !== NORMAL_CLOSURE) {
    throw new AppError('unreachable', `the daemon closed the stream of events (${code})`);
  }
}

function show(context: CommandContext, event: Event): void {
  if (context.json) {
    context.io.stdout.write(`${JSON.stringify(event)}\n`);
    return;
  }
  const resource = event.resource === null ? '' : `  ${event.resource.type}/${event.resource.id}`;
  const data = Object.keys(event.data).length === 0 ? '' : `  ${printable(JSON.stringify(event.data))}`;
  context.io.stdout.write(`${event.seq}  ${event.time}  ${event.type}${resource}${data}\n`);
}
