/** Runs one machine in the foreground on UML's command line. */
import { fstatSync, readFileSync, writeSync } from 'node:fs';
import { CompileService } from '../../engine/jit/compile-service.ts';
import { AppError } from '../../contracts/errors.ts';
import type { FromMachine, MachineWorkerData } from '../../contracts/ports.ts';
import { kernelVersion } from '../../engine/boot/kernel-version.ts';
import { NOTIFY, notifyText } from '../../mconsole/wire/notify.ts';
import { releaseUmid, type UmidFolder } from '../../mconsole/socket/umid-folder.ts';
import { TtyLogger } from '../../uml/tty-log.ts';
import { parseCommandLine, type UmlCommandLine } from '../../uml/command-line.ts';
import { ConsoleHub } from '../../vmm/index.ts';
import { panicMessage } from '../../vmm/instance/panic-message.ts';
import { MachineHost } from '../../vmm/machine-host.ts';
import { checkMemory, exitStatus, reportBootError } from '../boot.ts';
import { haltOnSignals } from '../boot-terminal.ts';
import { defaultHome } from '../home.ts';
import type { Io } from '../io.ts';
import { NetworkCards } from './cards.ts';
import { claimFolder, type ForegroundConsole, openConsole } from './console.ts';
import { Foreground } from './foreground.ts';
import { defaultKernel, type GuestKernel, machineConfig } from './plan.ts';

/** `kernel`: that of the default image when missing. Returns the exit status. Errors are reported on stderr. */
export async function runLinux(
  words: readonly string[],
  kernel: string | undefined,
  io: Io,
): Promise<number> {
  try {
    const line = parseCommandLine(words);
    for (const warning of line.warnings) io.stderr.write(`umlaut: ${warning}\n`);
    const guest = kernel === undefined ? defaultKernel(defaultHome(io.env)) : { kernel };
    const folder = claimFolder(line, io);
    try {
      return await runMachine(line, guest, folder, io);
    } finally {
      releaseUmid(folder);
    }
  } catch (error) {
    return reportBootError(error, io);
  }
}

/** As UML, where a signal has ended it: `int` of uml_mconsole, for one. */
const BROKEN_OFF = 1;

async function runMachine(
  line: UmlCommandLine,
  guest: GuestKernel,
  folder: UmidFolder,
  io: Io,
): Promise<number> {
  const plan = machineConfig(line, guest, folder.umid);
  checkMemory(plan.memoryBytes);
  const cards = new NetworkCards(folder.umid, io);
  try {
    const { nics, nicRings } = await cards.plugAll(line.eths);
    return await runWithCards(line, { config: { ...plan, nics }, nicRings }, folder, cards, io);
  } finally {
    await cards.close();
  }
}

async function runWithCards(
  line: UmlCommandLine,
  data: MachineWorkerData,
  folder: UmidFolder,
  cards: NetworkCards,
  io: Io,
): Promise<number> {
  const { config } = data;
  let console: ForegroundConsole | undefined;
  const ttyLog = line.ttyLogFd === undefined ? undefined : openTtyLog(line.ttyLogFd, io);
  const take = (message: FromMachine): void => {
    foreground.take(message);
    if (message.type === 'console-output') ttyLog?.bytes(message.console, 'shown', message.bytes);
    // Not within the machine's own call, which goes on to run it.
    if (message.type === 'rebooted' && line.noReboot) setImmediate(() => host.halt());
    if (message.type === 'panicked') console?.notify(NOTIFY.PANIC, notifyText(panicMessage(consoles) ?? ''));
    if (message.type === 'hung') console?.notify(NOTIFY.HANG, new Uint8Array(0));
    if (message.type === 'notification') console?.notify(NOTIFY.USER, message.bytes);
  };
  const host = new MachineHost(data, readFileSync, take, new CompileService().connect());
  const consoles = new ConsoleHub({
    input: (name, bytes) => {
      host.input(name, bytes);
      ttyLog?.bytes(name, 'typed', bytes);
    },
    taken: (name, bytes) => host.outputTaken(name, bytes),
    resize: (name, { columns, rows }) => host.resize(name, columns, rows),
  });
  consoles.setConsoleCount(config.consoleCount ?? 1);
  const { release, version } = kernelVersion(readFileSync(config.kernel));
  const foreground = new Foreground({
    host,
    consoles,
    line,
    umid: folder.umid,
    version: ['Linux', folder.umid, release ?? 'unknown', version, 'x86_64'].filter((part) => part).join(' '),
    memoryBytes: config.memoryBytes,
    cards,
    io,
  });
  let isBrokenOff = false;
  const ignoreSignals = haltOnSignals(host, () => {
    isBrokenOff = true;
  });
  try {
    await foreground.join();
    console = await openConsole(folder, foreground, line.notifyPath, io);
    const end = await host.run();
    await host.close();
    return isBrokenOff ? BROKEN_OFF : exitStatus(end, io);
  } finally {
    ignoreSignals();
    foreground.close();
    ttyLog?.end();
    await host.close();
    await console?.close();
  }
}

/** AppError `invalid_input` when the descriptor is not open. What cannot be written is told once, and the guest runs on. */
function openTtyLog(fd: number, io: Io): TtyLogger {
  try {
    fstatSync(fd);
  } catch (cause) {
    throw new AppError('invalid_input', `the descriptor ${fd} is not open`, {
      field: 'tty_log_fd',
      remedy: `open it when you start the command, as in: umlaut linux ... ${fd}>FILE`,
      cause,
    });
  }
  let failed = false;
  return new TtyLogger((record) => {
    if (failed) return;
    try {
      for (let done = 0; done < record.length; ) done += writeSync(fd, record, done);
    } catch (error) {
      failed = true;
      io.stderr.write(`umlaut: the log of terminals ends here: ${String(error)}\r\n`);
    }
  });
}
