/** `umlaut boot`: one machine in the foreground, without a daemon. */
import { readFileSync, writeFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { type Command, Option } from 'commander';
import type { ShareCreateInput } from '../contracts/api/index.ts';
import type { PluggedNics } from './boot-network.ts';
import { CompileService } from '../engine/jit/compile-service.ts';
import { AppError, type ErrorCode, toAppError } from '../contracts/errors.ts';
import type { MachineConfig, NicConfig } from '../contracts/machine.ts';
import type { FromMachine, MachineEnd } from '../contracts/ports.ts';
import { BootError } from '../engine/boot/errors.ts';
import { Profiler } from '../engine/profiler.ts';
import { MachineHost } from '../vmm/machine-host.ts';
import { type BootDisk, type BootNic, parseCount, parseDisk, parseNic, parsePort } from './boot-options.ts';
import { parseSystemMap, profileReport } from './boot-profile.ts';
import { attachConsole } from './boot-terminal.ts';
import { EXIT } from './exit-code.ts';
import { type Io, processIo } from './io.ts';
import { parseBytes } from './parse.ts';
import { parseShare, shareConfig } from './share-options.ts';

const CONSOLE = 'ttyS0';
const MEMORY_DEFAULT = '256M';
/** Firmware tables end at 1 MiB, and kernels begin there. */
const MEMORY_MIN = 2 << 20;

export interface BootOptions {
  readonly kernel: string;
  readonly initrd?: string | undefined;
  readonly append: string;
  /** Bytes. */
  readonly memory: number;
  readonly disk: readonly BootDisk[];
  readonly nic: readonly BootNic[];
  /** Folders that the guest can mount. */
  readonly share: readonly ShareCreateInput[];
  /** I/O port of an isa-debug-exit device. */
  readonly debugExit?: number | undefined;
  /** False: interpreter alone. */
  readonly jit: boolean;
  readonly jitThreshold?: number | undefined;
  /** Bytes of WebAssembly that compiled code may have. */
  readonly jitCode?: number | undefined;
  /** Entries of each bank of the CPU's TLB. */
  readonly tlbEntries?: string | undefined;
  readonly jitStats?: boolean | undefined;
  /** File for the profile, true for stderr. */
  readonly profile?: string | boolean | undefined;
  /** The kernel's symbols. */
  readonly systemMap?: string | undefined;
  /** File for the statistics, as JSON. */
  readonly stats?: string | undefined;
}

/** Errors that lie in what the user gave, and not in the host or the engine. */
const BAD_ARGUMENTS: readonly ErrorCode[] = [
  'invalid_input',
  'not_found',
  'already_exists',
  'bad_kernel',
  'bad_image',
  'image_truncated',
  'cow_corrupt',
  'cow_backing_changed',
  'cow_backing_missing',
  'cow_backing_self',
  'memory_too_small',
  'memory_too_large',
];

export function registerBoot(program: Command, io: Io = processIo()): void {
  program
    .command('boot')
    .description('run one VM in the foreground, without the daemon; Ctrl-] ends it')
    .requiredOption('--kernel <file>', 'bzImage, ELF with a PVH note, or 32-bit multiboot ELF')
    .option('--initrd <file>', 'initial RAM disk')
    .option('--append <text>', 'kernel command line', 'console=ttyS0')
    .option(
      '--memory <size>',
      `guest memory (default: ${MEMORY_DEFAULT})`,
      parseBytes,
      parseBytes(MEMORY_DEFAULT),
    )
    .option('--disk <file[,cow=file][,readonly]>', 'a disk; may be repeated', parseDisk, [])
    .option(
      '--nic <none|network=name|transport>',
      'a NIC on a network of this run, or of its own: nat, tuntap:tap0, daemon:SOCKET, ...; may be repeated',
      parseNic,
      [],
    )
    .option(
      '--share <tag=folder[,setting…]>',
      'a folder that the guest can mount (mount -t 9p); may be repeated',
      parseShare,
      [],
    )
    .option(
      '--debug-exit <port>',
      'end with status (V << 1) | 1 when the guest writes V to this port',
      parsePort,
    )
    .option('--no-jit', 'interpret everything')
    .option('--jit-threshold <count>', 'executions of a block before it is compiled', parseCount)
    .option('--jit-code <size>', 'room for compiled code, as WebAssembly', parseBytes)
    .addOption(
      new Option('--tlb-entries <count>', "size of the CPU's TLB").choices(['16', '64', '256', '1024']),
    )
    .option('--jit-stats', 'tell at the end what was compiled')
    .option('--profile [file]', 'tell at the end where the guest spent its instructions')
    .option('--system-map <file>', 'System.map of the guest kernel: the profile names its functions')
    .option('--stats <file>', 'write instructions, seconds and memory as JSON at the end')
    .addHelpText(
      'after',
      '\nExit status: 0 the guest powered off, 1 triple fault or engine error, 2 bad arguments',
    )
    .action(async (options: BootOptions) => {
      io.exitCode = await runBoot(options, io);
    });
}

/** Runs a machine to its end and returns the exit status. Errors are reported on stderr. */
export async function runBoot(options: BootOptions, io: Io = processIo()): Promise<number> {
  try {
    checkMemory(options.memory);
    const network = await plugInto(options.nic);
    try {
      return await runMachine(options, network.nics, network.rings, io);
    } finally {
      await network.close();
    }
  } catch (error) {
    return reportBootError(error, io);
  }
}

/** The switch and all that networks need are loaded only for a machine that has any. */
async function plugInto(nics: readonly BootNic[]): Promise<PluggedNics> {
  if (nics.length === 0) return { nics: [], rings: [], close: async () => {} };
  return (await import('./boot-network.ts')).plugNics(nics);
}

/** Prints why a machine could not run; gives the exit status. */
export function reportBootError(error: unknown, io: Io): number {
  const known = error instanceof BootError ? new AppError(error.code, error.message) : toAppError(error);
  io.stderr.write(`umlaut: ${known.message}${known.remedy === undefined ? '' : `: ${known.remedy}`}\n`);
  return BAD_ARGUMENTS.includes(known.code) ? EXIT.usage : EXIT.error;
}

export function checkMemory(memoryBytes: number): void {
  if (memoryBytes < MEMORY_MIN) {
    throw new AppError('memory_too_small', 'the machine is to have too little memory for a kernel', {
      field: '--memory',
      remedy: `give it at least ${MEMORY_MIN >> 20}M`,
    });
  }
  if (memoryBytes <= totalmem()) return;
  throw new AppError('memory_too_large', 'the machine is to have more memory than this host', {
    field: '--memory',
    remedy: `give it at most ${Math.floor(totalmem() / 2 ** 20)}M`,
  });
}

async function runMachine(
  options: BootOptions,
  nics: readonly NicConfig[],
  nicRings: readonly SharedArrayBuffer[],
  io: Io,
): Promise<number> {
  const post = (message: FromMachine): void => {
    if (message.type === 'console-held' && message.console === CONSOLE) {
      if (message.held) process.stdin.pause();
      else process.stdin.resume();
    }
    if (message.type !== 'console-output') return;
    const taken = (): void => host.outputTaken(message.console, message.bytes.length);
    if (message.console === CONSOLE) process.stdout.write(message.bytes, taken);
    else taken();
  };
  const config = machineConfig(options, nics);
  const compiler = options.jit ? new CompileService().connect() : undefined;
  const symbols = parseSystemMap(
    options.systemMap === undefined ? '' : readFileSync(options.systemMap, 'latin1'),
  );
  const profiler = options.profile === undefined ? undefined : new Profiler();
  const host = new MachineHost({ config, nicRings }, readFileSync, post, compiler, profiler);
  const detach = attachConsole(host, CONSOLE, io);
  try {
    const end = await host.run();
    await host.close();
    if (options.stats !== undefined) writeStats(options.stats, host);
    if (options.jitStats) io.stderr.write(jitReport(host));
    if (profiler !== undefined) {
      const report = profileReport(profiler.places, symbols);
      if (typeof options.profile === 'string') writeFileSync(options.profile, report);
      else io.stderr.write(`\n${report}`);
    }
    return exitStatus(end, io);
  } finally {
    detach();
    await host.close();
  }
}

function machineConfig(options: BootOptions, nics: readonly NicConfig[]): MachineConfig {
  return {
    name: 'guest',
    memoryBytes: options.memory,
    kernel: options.kernel,
    initrd: options.initrd,
    append: options.append,
    disks: options.disk.map((disk, index) => ({ device: `ubd${index}`, ...disk })),
    nics,
    shares: options.share.map(shareConfig),
    debugExitPort: options.debugExit,
    jitThreshold: options.jit ? options.jitThreshold : 0,
    jitCodeBytes: options.jitCode,
    tlbEntries: options.tlbEntries === undefined ? undefined : Number(options.tlbEntries),
  };
}

function writeStats(file: string, host: MachineHost): void {
  const { instructions, wallSeconds, disks, nics } = host.stats();
  const { user, system } = process.cpuUsage();
  const stats = {
    instructions,
    wall_seconds: wallSeconds,
    cpu_seconds: (user + system) / 1e6,
    peak_memory_bytes: process.resourceUsage().maxRSS * 1024,
    disks,
    nics,
  };
  writeFileSync(file, `${JSON.stringify(stats, null, 2)}\n`);
}

function jitReport(host: MachineHost): string {
  const { regions, modules, moduleBytes, guestInstructions, compileMs, ...now } = host.jitStats;
  return [
    '',
    `umlaut: compiled ${regions} regions of ${guestInstructions} guest instructions into ${modules} modules, ${moduleBytes} bytes, in ${Math.round(compileMs)} ms`,
    `umlaut: ${((100 * now.compiledInstructions) / Math.max(1, now.instructions)).toFixed(1)} % of ${now.instructions} instructions were retired by compiled code; it was left ${now.leftForCode} times for a spent slice or code that is not compiled, ${now.leftForMiss} for accesses that the TLB did not allow, ${now.leftForFault} for faults, ${now.leftForSystem} for devices and halts`,
    `umlaut: ${now.residentRegions} regions are there, in modules of ${now.residentBytes} bytes; ${now.evictedRegions} had to go`,
    '',
  ].join('\n');
}

/** Prints how a run has ended, unless it is as it should be; gives the exit status. */
export function exitStatus(end: MachineEnd, io: Io): number {
  switch (end.reason) {
    case 'power-off':
    case 'halt':
      return EXIT.ok;
    case 'debug-exit':
      return end.status;
    case 'triple-fault':
      io.stderr.write(`\numlaut: the guest's CPU has shut down (triple fault)\n${end.detail}\n`);
      return EXIT.error;
    case 'error':
      io.stderr.write(`\numlaut: the machine has failed: ${end.detail}\n`);
      return EXIT.error;
  }
}
