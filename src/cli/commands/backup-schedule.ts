/** `umlaut backup schedule …` and `umlaut backup prune` */
import type { Command } from 'commander';
import type { BackupSchedule, KeepPolicy, PruneResult } from '../../contracts/api/index.ts';
import { CommandContext } from '../context.ts';
import { formatTable } from '../format.ts';
import type { Io } from '../io.ts';
import { parseCount } from '../parse.ts';

interface KeepOptions {
  readonly keepLast?: number;
  readonly keepHourly?: number;
  readonly keepDaily?: number;
  readonly keepWeekly?: number;
  readonly keepMonthly?: number;
  readonly keepYearly?: number;
}
interface ScheduleOptions extends KeepOptions {
  readonly name?: string;
  readonly timeZone?: string;
  readonly jitter?: number;
  readonly destination?: string;
  readonly quiesce?: boolean;
}
interface PruneOptions extends KeepOptions {
  readonly timeZone?: string;
  readonly dryRun?: boolean;
}

function addKeepOptions(command: Command): Command {
  return command
    .option('--keep-last <count>', 'keep so many of the newest', parseCount)
    .option('--keep-hourly <count>', 'keep the newest of so many hours', parseCount)
    .option('--keep-daily <count>', 'keep the newest of so many days', parseCount)
    .option('--keep-weekly <count>', 'keep the newest of so many weeks', parseCount)
    .option('--keep-monthly <count>', 'keep the newest of so many months', parseCount)
    .option('--keep-yearly <count>', 'keep the newest of so many years', parseCount);
}

function policyOf(options: KeepOptions): KeepPolicy | undefined {
  const policy: KeepPolicy = {
    ...(options.keepLast !== undefined && { last: options.keepLast }),
    ...(options.keepHourly !== undefined && { hourly: options.keepHourly }),
    ...(options.keepDaily !== undefined && { daily: options.keepDaily }),
    ...(options.keepWeekly !== undefined && { weekly: options.keepWeekly }),
    ...(options.keepMonthly !== undefined && { monthly: options.keepMonthly }),
    ...(options.keepYearly !== undefined && { yearly: options.keepYearly }),
  };
  return Object.keys(policy).length === 0 ? undefined : policy;
}

function settingsOf(options: ScheduleOptions) {
  const keep = policyOf(options);
  const { timeZone, jitter, destination, quiesce } = options;
  return {
    ...(timeZone !== undefined && { time_zone: timeZone }),
    ...(jitter !== undefined && { jitter_seconds: jitter }),
    ...(destination !== undefined && { destination }),
    ...(quiesce !== undefined && { quiesce }),
    ...(keep !== undefined && { keep }),
  };
}

function addScheduleOptions(command: Command): Command {
  return addKeepOptions(
    command
      .option('--time-zone <zone>', 'such as Europe/Vienna; UTC when missing')
      .option('--jitter <seconds>', 'put each run off at random by up to so long', parseCount)
      .option('--destination <name>', 'where to; the state folder of the daemon when missing')
      .option('--no-quiesce', "do not have the guest's file systems frozen or written out for the moment"),
  );
}

export function registerSchedules(backup: Command, io: Io): void {
  const schedule = backup.command('schedule').description('backups by the clock');
  addScheduleOptions(
    schedule
      .command('add')
      .argument('<vm>')
      .argument('<cron>', 'minute hour day month weekday, such as "30 2 * * *"')
      .option('--name <name>', 'made up when missing'),
  )
    .description('back a VM up regularly')
    .action(async (vm: string, cron: string, options: ScheduleOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const { name } = options;
      const body = { cron, ...(name !== undefined && { name }), ...settingsOf(options) };
      const made = await context.client.createBackupSchedule(vm, body);
      context.print(made, () => `${made.name}\n`);
    });
  schedule
    .command('list')
    .option('--vm <vm>', 'only of this VM')
    .description('all schedules')
    .action(async (options: { vm?: string }, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.listBackupSchedules(options), scheduleTable);
    });
  registerChanges(schedule, io);
}

function registerChanges(schedule: Command, io: Io): void {
  addScheduleOptions(
    schedule
      .command('change')
      .argument('<schedule>')
      .option('--cron <cron>', 'minute hour day month weekday'),
  )
    .description('change what is named, and leave the rest')
    .action(async (id: string, options: ScheduleOptions & { cron?: string }, command: Command) => {
      const context = new CommandContext(command, io);
      const { cron } = options;
      const { quiesce: _default, ...settings } = settingsOf(options);
      const body = {
        ...settings,
        ...(cron !== undefined && { cron }),
        // The option is there to switch it off; not naming it must not switch it on.
        ...(options.quiesce === false && { quiesce: false }),
      };
      const now = await context.client.updateBackupSchedule(id, body);
      context.print(now, () => scheduleTable([now]));
    });
  for (const [verb, enabled] of [
    ['enable', true],
    ['disable', false],
  ] as const) {
    schedule
      .command(verb)
      .argument('<schedule>')
      .description(`${verb} a schedule`)
      .action(async (id: string, _options: object, command: Command) => {
        const context = new CommandContext(command, io);
        const now = await context.client.updateBackupSchedule(id, { enabled });
        context.print(now, () => scheduleTable([now]));
      });
  }
  schedule
    .command('delete')
    .argument('<schedule>')
    .description('delete a schedule; its backups stay')
    .action(async (id: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      await context.client.deleteBackupSchedule(id);
      context.print({ deleted: id }, () => `${id} deleted\n`);
    });
}

export function registerPrune(backup: Command, io: Io): void {
  addKeepOptions(backup.command('prune').argument('<vm>'))
    .option('--time-zone <zone>', 'in which days begin; UTC when missing')
    .option('--dry-run', 'only say what would be kept and why')
    .description("delete a VM's backups but those that the rules keep, also when the VM is gone")
    .action(async (vm: string, options: PruneOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const { timeZone, dryRun } = options;
      const result = await context.client.pruneBackups(vm, {
        keep: policyOf(options) ?? {},
        ...(timeZone !== undefined && { time_zone: timeZone }),
        ...(dryRun !== undefined && { dry_run: dryRun }),
      });
      context.print(result, pruneTable);
    });
}

function pruneTable({ dry_run, backups }: PruneResult): string {
  const gone = dry_run ? 'would be deleted' : 'deleted';
  const rows = backups.map(({ name, taken_at, keep, reasons }) => [
    name,
    taken_at,
    keep ? 'kept' : gone,
    reasons.join(', '),
  ]);
  return formatTable(['NAME', 'TAKEN', 'WHAT', 'WHY'], rows);
}

function scheduleTable(schedules: readonly BackupSchedule[]): string {
  const rows = schedules.map((one) => [
    one.name,
    one.id,
    one.vm_id,
    `${one.cron} ${one.time_zone}`,
    one.destination,
    keepText(one.keep),
    one.enabled ? (one.next_at ?? 'never') : 'disabled',
  ]);
  return formatTable(['NAME', 'ID', 'VM', 'WHEN', 'WHERE', 'KEEP', 'NEXT'], rows);
}

function keepText(keep: KeepPolicy | null): string {
  if (keep === null) return 'all';
  return Object.entries(keep)
    .map(([rule, count]) => `${rule} ${count}`)
    .join(', ');
}
