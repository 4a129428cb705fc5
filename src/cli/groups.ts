/** All groups of commands, a row for each. */
import type { Command } from 'commander';
import { registerBoot } from './boot.ts';
import { registerBackup } from './commands/backup.ts';
import { registerConsole } from './commands/console.ts';
import { registerDaemon } from './commands/daemon.ts';
import { registerDisk } from './commands/disk.ts';
import { registerDiskFiles } from './commands/disk-files.ts';
import { registerDiskTransfer } from './commands/disk-transfer.ts';
import { registerEvents } from './commands/events.ts';
import { registerFirewall } from './commands/firewall.ts';
import { registerImage } from './commands/image.ts';
import { registerLineage } from './commands/lineage.ts';
import { registerLinux } from './commands/linux.ts';
import { registerMconsole } from './commands/mconsole.ts';
import { registerMoo } from './commands/moo.ts';
import { registerTap } from './commands/tap.ts';
import { registerNetwork } from './commands/network.ts';
import { registerOperation } from './commands/operation.ts';
import { registerProc } from './commands/proc.ts';
import { registerShare } from './commands/share.ts';
import { registerSnapshot } from './commands/snapshot.ts';
import { registerSwitch } from './commands/switch.ts';
import { registerTty } from './commands/tty.ts';
import { registerVm } from './commands/vm.ts';
import type { Io } from './io.ts';

/** Adds a group's commands to the program. */
export type Register = (program: Command, io: Io) => void;

export const GROUPS: readonly Register[] = [
  registerDaemon,
  registerBoot,
  registerLinux,
  registerVm,
  registerConsole,
  registerMconsole,
  registerImage,
  registerSnapshot,
  registerBackup,
  registerDisk,
  registerDiskFiles,
  registerDiskTransfer,
  registerLineage,
  registerShare,
  registerMoo,
  registerNetwork,
  registerFirewall,
  registerTap,
  registerSwitch,
  registerEvents,
  registerTty,
  registerProc,
  registerOperation,
];
