/** `umlaut vm …` */
import type { Command } from 'commander';
import {
  parseTransport,
  type ShareCreateInput,
  type Vm,
  type VmCreateInput,
  VmState,
  type VmUpdate,
  type Watch,
} from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Client } from '../client.ts';
import { CommandContext } from '../context.ts';
import { addDiskSettings, type DiskSettingOptions, diskSettings } from '../disk-settings.ts';
import { formatAge, formatBytes, formatFields, formatTable } from '../format.ts';
import type { Io } from '../io.ts';
import { nicPlace } from '../nic-text.ts';
import { collect, parseBytes, parseCount, parseLabel } from '../parse.ts';
import { parseShare } from '../share-options.ts';
import { parseWatch } from '../watch-options.ts';
import { registerConsoles } from './vm-consoles.ts';
import { formatStats } from '../vm-stats.ts';
import { type CloudInitOptions, cloudInit } from './cloud-init.ts';

type NicInput = NonNullable<VmCreateInput['nics']>[number];

interface CreateOptions extends DiskSettingOptions, CloudInitOptions {
  readonly image?: string;
  readonly memory?: number;
  readonly jitCode?: number;
  readonly append?: string;
  readonly disk?: string[];
  readonly nic?: string[];
  readonly share?: ShareCreateInput[];
  readonly watch?: Watch[];
  readonly label?: Record<string, string>;
  readonly autostart?: Vm['autostart'];
  readonly start?: boolean;
  readonly dryRun?: boolean;
}

export function registerVm(program: Command, io: Io): void {
  const vm = program.command('vm').description('virtual machines');
  registerCreate(vm, io);
  registerQueries(vm, io);
  registerPower(vm, io);
  registerSwitches(vm, io);
  registerChanges(vm, io);
  registerConsoles(vm, io);
}

function registerCreate(vm: Command, io: Io): void {
  const create = vm
    .command('create')
    .argument('[name]', 'a DNS label; made up when missing')
    .description('make a VM whose disk is a copy-on-write file over an image')
    .option('--image <image>', 'id or name (default: the image "default")')
    .option('--memory <size>', 'guest memory, such as 256M', parseBytes)
    .option('--jit-code <size>', 'room for compiled code, as WebAssembly', parseBytes)
    .option('--append <text>', "added to the image's kernel command line")
    .option('--disk <disk>', 'attach this disk too; may be repeated', collect)
    .option(
      '--nic <network>',
      'a NIC on this network, or with a transport (nat:, daemon:SOCKET, ...), "none" for no NIC; may be repeated',
      collect,
    )
    .option(
      '--share <tag=folder[,setting…]>',
      'a folder of the host that the guest can mount; may be repeated',
      parseShare,
    )
    .option('--user-data <file>', 'for cloud-init in the guest: #cloud-config or a script')
    .option('--ssh-key <file>', 'a public key for cloud-init; may be repeated', collect)
    .option('--network-config <file>', "for cloud-init, in place of what is made from the VM's network cards")
    .option('--watch <what>', 'log from outside: exec, open, connect, tty, joined by commas', parseWatch)
    .option('--label <key=value>', 'may be repeated', parseLabel)
    .option('--autostart <when>', 'last-state, always or never')
    .option('--start', 'boot it at once')
    .option('--dry-run', 'check everything, make nothing');
  addDiskSettings(create, 'its own disk').action(
    async (name: string | undefined, options: CreateOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const body = createBody(name, options);
      if (options.dryRun === true) {
        const plan = await context.client.planVm(body);
        context.print(plan, () => `would make VM ${plan.vm.name}, ${formatBytes(plan.vm.memory_bytes)}\n`);
        return;
      }
      const made = await context.client.createVm({ ...body, start: false });
      // Started in a request of its own, whose failure is this command's.
      const started = options.start === true;
      if (started) await context.finish(await context.client.startVm(made.id), true);
      const vm = started ? await context.client.getVm(made.id) : made;
      context.print(vm, () => `${vm.name}\n`);
    },
  );
}

function createBody(name: string | undefined, options: CreateOptions): VmCreateInput {
  const { image, memory, append, disk, share, watch, label, autostart, start } = options;
  return {
    ...(name !== undefined && { name }),
    ...(image !== undefined && { image }),
    ...(memory !== undefined && { memory_bytes: memory }),
    ...(options.jitCode !== undefined && { jit_code_bytes: options.jitCode }),
    ...(append !== undefined && { append }),
    ...(disk !== undefined && { disks: disk.map((one) => ({ disk: one })) }),
    ...(options.nic !== undefined && { nics: nicsOf(options.nic) }),
    ...(share !== undefined && { shares: share }),
    ...(watch !== undefined && { watch }),
    ...(label !== undefined && { labels: label }),
    ...(autostart !== undefined && { autostart }),
    ...(start !== undefined && { start }),
    ...cloudInit(options),
    root_disk: diskSettings(options),
  };
}

function nicsOf(names: readonly string[]): NicInput[] {
  // No network has a colon in its name.
  const place = (name: string): NicInput =>
    name.includes(':') ? { transport: parseTransport(name, '--nic') } : { network: name };
  if (!names.includes('none')) return names.map(place);
  if (names.length === 1) return [];
  throw new AppError('invalid_input', '"none" is given together with networks', {
    field: '--nic',
    remedy: 'Give either --nic none or the networks.',
  });
}

function registerQueries(vm: Command, io: Io): void {
  vm.command('list')
    .description('all VMs')
    .option('--state <state>', VmState.options.join(', '))
    .option('--label <label>', 'key or key=value')
    .option('--name <name>')
    .action(async (options: { state?: string; label?: string; name?: string }, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.listVms(options), vmTable);
    });
  vm.command('show')
    .argument('<vm>')
    .description('one VM')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.getVm(name), vmFields);
    });
  vm.command('stats')
    .argument('<vm>')
    .description('counters of a running VM')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.getVmStats(name), formatStats);
    });
  vm.command('wait')
    .argument('<vm>')
    .requiredOption('--state <state>', VmState.options.join(', '))
    .option('--timeout <seconds>', 'at most 600', parseCount, 60)
    .description('wait until the VM is in a state')
    .action(async (name: string, options: { state: Vm['state']; timeout: number }, command: Command) => {
      const context = new CommandContext(command, io);
      const now = await context.client.waitVm(name, options.state, options.timeout);
      context.print(now, () => `${now.name} is ${now.state}\n`);
      if (now.state !== options.state) {
        const detail = `${now.name} is ${now.state} after ${options.timeout} s, not ${options.state}`;
        throw new AppError('guest_not_responding', detail);
      }
    });
}

/** Verbs whose end is waited for. */
const POWER = [
  { name: 'start', done: 'started', does: 'boot', call: (client: Client, vm: string) => client.startVm(vm) },
  {
    name: 'halt',
    done: 'halted',
    does: 'switch it off at once; its disks are flushed',
    call: (client: Client, vm: string) => client.haltVm(vm),
  },
  {
    name: 'reboot',
    done: 'rebooted',
    does: 'reset it at once',
    call: (client: Client, vm: string) => client.rebootVm(vm),
  },
  {
    name: 'shutdown',
    done: 'shut down',
    does: 'press the power button and wait until the guest is off',
    call: (client: Client, vm: string) => client.shutdownVm(vm),
  },
] as const;

function registerPower(vm: Command, io: Io): void {
  for (const { name, done, does, call } of POWER) {
    vm.command(name)
      .argument('<vm>')
      .option('--no-wait', 'do not wait for the end')
      .description(does)
      .action(async (target: string, options: { wait: boolean }, command: Command) => {
        const context = new CommandContext(command, io);
        const operation = await context.finish(await call(context.client, target), options.wait);
        context.print(operation, () =>
          options.wait ? `${target} ${done}\n` : `operation ${operation.id} ${operation.status}\n`,
        );
      });
  }
}

/** Verbs that are done when they answer. */
const SWITCHES = [
  {
    name: 'stop',
    does: 'freeze its CPU; memory stays',
    call: (client: Client, vm: string) => client.stopVm(vm),
  },
  { name: 'go', does: 'let a stopped VM go on', call: (client: Client, vm: string) => client.goVm(vm) },
  { name: 'cad', does: 'press Ctrl-Alt-Del', call: (client: Client, vm: string) => client.cadVm(vm) },
] as const;

function registerSwitches(vm: Command, io: Io): void {
  for (const { name, does, call } of SWITCHES) {
    vm.command(name)
      .argument('<vm>')
      .description(does)
      .action(async (target: string, _options: object, command: Command) => {
        const context = new CommandContext(command, io);
        context.print(await call(context.client, target), (now) => `${now.name} is ${now.state}\n`);
      });
  }
  vm.command('sysrq')
    .argument('<vm>')
    .argument('[letter]', "a key of the kernel's SysRq handler", 'h')
    .description('magic SysRq; its output is on the console')
    .action(async (target: string, letter: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.sysrqVm(target, letter), (now) => `${now.name} is ${now.state}\n`);
    });
}

interface UpdateOptions {
  readonly name?: string;
  readonly memory?: number;
  readonly jitCode?: number;
  readonly append?: string;
  readonly autostart?: Vm['autostart'];
  readonly watch?: Watch[];
}

function registerChanges(vm: Command, io: Io): void {
  vm.command('update')
    .argument('<vm>')
    .option('--name <name>')
    .option('--memory <size>', 'guest memory, such as 256M', parseBytes)
    .option('--jit-code <size>', 'room for compiled code from the next start on, as WebAssembly', parseBytes)
    .option('--append <text>', "added to the image's kernel command line")
    .option('--autostart <when>', 'last-state, always or never')
    .option(
      '--watch <what>',
      'log from outside: exec, open, connect, tty, joined by commas, or none',
      parseWatch,
    )
    .description('change its configuration; memory and command line only while it is off')
    .action(async (target: string, options: UpdateOptions, command: Command) => {
      const context = new CommandContext(command, io);
      const { memory, jitCode, ...rest } = options;
      const body: VmUpdate = {
        ...rest,
        ...(memory !== undefined && { memory_bytes: memory }),
        ...(jitCode !== undefined && { jit_code_bytes: jitCode }),
      };
      context.print(await context.client.updateVm(target, body), vmFields);
    });
  vm.command('delete')
    .argument('<vm>')
    .description('delete a VM that is off, with the disks that are its own')
    .action(async (target: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      await context.client.deleteVm(target);
      context.print({ deleted: target }, () => `${target} deleted\n`);
    });
}

function addresses(vm: Vm): string {
  return vm.nics.flatMap((nic) => nic.addresses).join(' ');
}

function vmTable(vms: readonly Vm[]): string {
  const rows = vms.map((vm) => [
    vm.name,
    vm.state,
    formatBytes(vm.memory_bytes),
    vm.image_name,
    addresses(vm),
    formatAge(vm.created_at),
  ]);
  return formatTable(['NAME', 'STATE', 'MEMORY', 'IMAGE', 'ADDRESS', 'AGE'], rows);
}

function vmFields(vm: Vm): string {
  const labels = Object.entries(vm.labels).map(([key, value]) => `${key}=${value}`);
  const fields: [string, string][] = [
    ['name', vm.name],
    ['id', vm.id],
    ['state', vm.state],
    ['memory', formatBytes(vm.memory_bytes)],
    ['code', vm.jit_code_bytes === null ? '' : formatBytes(vm.jit_code_bytes)],
    ['image', `${vm.image_name} (${vm.image_id})`],
    ['append', vm.append],
    ['autostart', vm.autostart],
    ['consoles', vm.consoles.join(' ')],
    ['watched', vm.watch.join(' ')],
    ['labels', labels.join(' ')],
    ['created', vm.created_at],
    ['started', vm.started_at ?? ''],
  ];
  if (vm.cause !== null)
    fields.push(['cause', `${vm.cause.detail.replaceAll('\n', '; ')} (${vm.cause.code})`]);
  for (const disk of vm.disks) {
    const size = `${formatBytes(disk.size_bytes)}, ${formatBytes(disk.allocated_bytes)} on the host`;
    fields.push([disk.device ?? 'disk', `${disk.name}, ${disk.format}, ${size}`]);
  }
  for (const share of vm.shares) {
    fields.push([`share ${share.tag}`, `${share.path}${share.read_only ? ', read-only' : ''}`]);
  }
  for (const nic of vm.nics) {
    fields.push([nic.device, `${nic.mac} on ${nicPlace(nic)} ${nic.addresses.join(' ')}`.trimEnd()]);
  }
  return formatFields(fields);
}
