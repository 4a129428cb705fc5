/** The virtual machine manager: VMs and their states, disks, images, networks, backups, operations, events. */
export type { Principal } from './access.ts';
export { SYSTEM } from './access.ts';
export { type EventLog, type LoggedEvent, typeFilter } from './events.ts';
export { Home } from './home.ts';
export { FIRST_SERIAL } from './console-names.ts';
export { ConsoleHub, type Viewer, type ViewerHandle } from './instance/console-hub.ts';
export { consoleOf, lineCount, type LineName, Lines, lineText } from './instance/lines.ts';
export type { Instance } from './instance/instance.ts';
export { Manager, type ManagerOptions, type Services } from './manager.ts';
export type {
  ImageLibrary,
  ImageProgress,
  Log,
  MachineFactory,
  MachineWorker,
  NetworkSwitch,
  StoredImage,
} from './ports.ts';
