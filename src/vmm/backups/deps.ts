import type { Store } from '../../db/index.ts';
import type { Admission } from '../admission.ts';
import type { EventLog } from '../events.ts';
import type { Home } from '../home.ts';
import type { HostPaths } from '../host-paths.ts';
import type { Operations } from '../operations.ts';
import type { Log } from '../ports.ts';
import type { Disks } from '../services/disks.ts';
import type { Images } from '../services/images.ts';
import type { Nics, SavedNics } from '../services/nics.ts';
import type { SavedSettings } from '../services/saved-settings.ts';
import type { Supervisor } from '../services/supervisor.ts';
import type { Vms } from '../services/vms.ts';
import type { BackupStores } from './stores.ts';

/** What the parts of the backup service need of others. */
export interface BackupDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly home: Home;
  readonly hostPaths: HostPaths;
  readonly admission: Admission;
  readonly operations: Operations;
  readonly disks: Disks;
  readonly nics: Nics;
  readonly vms: Vms;
  readonly images: Images;
  readonly supervisor: Supervisor;
  readonly stores: BackupStores;
  readonly log: Log;
}

/** `backups.config`: what a restore needs beside the columns. */
export interface BackupConfig extends SavedNics {
  readonly debugExitPort: number | null;
  /** Missing in what an earlier version has written. */
  readonly settings?: SavedSettings | undefined;
}
