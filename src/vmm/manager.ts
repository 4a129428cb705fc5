/** Puts the virtual machine manager together from the parts it is given, and takes it through its life. */
import type { Jobs } from '../contracts/jobs.ts';
import type { Store } from '../db/index.ts';
import { Backups } from './backups/backups.ts';
import { BackupStores } from './backups/stores.ts';
import { Admission, type HostMemory, hostMemory } from './admission.ts';
import { EventLog } from './events.ts';
import type { Home } from './home.ts';
import { HostPaths } from './host-paths.ts';
import { Operations } from './operations.ts';
import { INTERNET_ONLY } from '../switchd/index.ts';
import type { ImageLibrary, Log, MachineFactory, NatPolicyOptions, NetworkSwitch } from './ports.ts';
import { Addresses } from './services/addresses.ts';
import { Consoles } from './services/consoles.ts';
import { Devices } from './services/devices.ts';
import { CloudInits } from './services/cloud-init.ts';
import { DiskResizes } from './services/disk-resizes.ts';
import { DiskWork } from './services/disk-work.ts';
import { Disks } from './services/disks.ts';
import { Forwards } from './services/forwards.ts';
import { Firewalls } from './services/firewalls.ts';
import { Idempotency } from './services/idempotency.ts';
import { Images } from './services/images.ts';
import { LayerMerges } from './services/layer-merges.ts';
import { Lineage } from './services/lineage.ts';
import { Networks } from './services/networks.ts';
import { Nics } from './services/nics.ts';
import { followGroups, PluggedNics } from './services/plugged-nics.ts';
import { Rebases } from './services/rebases.ts';
import { RemoteFolders } from './remote-folders.ts';
import { ProcFiles } from './services/proc-files.ts';
import { Shares } from './services/shares.ts';
import { SnapshotUses } from './services/snapshot-uses.ts';
import { Snapshots } from './services/snapshots.ts';
import { Watches } from './services/watches.ts';
import { Supervisor } from './services/supervisor.ts';
import { Tickets } from './services/tickets.ts';
import { Tokens } from './services/tokens.ts';
import { Transfers } from './services/transfers.ts';
import { Vms } from './services/vms.ts';

const RETENTION_EVERY_MS = 3600 * 1000;

export interface ManagerOptions {
  readonly version: string;
  readonly home: Home;
  readonly store: Store;
  readonly jobs: Jobs;
  readonly library: ImageLibrary;
  readonly fabric: NetworkSwitch;
  readonly createWorker: MachineFactory;
  readonly log: Log;
  /** Of the host that the API may name. */
  readonly allowedPaths: readonly string[];
  /** Where networks with the uplink `nat` lead; to the Internet alone when missing. */
  readonly nat?: NatPolicyOptions | undefined;
  /** All guests together with their overhead. */
  readonly memoryLimitBytes?: number | undefined;
  readonly hostMemory?: HostMemory | undefined;
}

/** What the front doors use. */
export interface Services {
  readonly home: Home;
  readonly admission: Admission;
  readonly events: EventLog;
  readonly operations: Operations;
  readonly images: Images;
  readonly networks: Networks;
  readonly firewalls: Firewalls;
  readonly forwards: Forwards;
  readonly disks: Disks;
  readonly diskResizes: DiskResizes;
  readonly diskWork: DiskWork;
  readonly transfers: Transfers;
  readonly supervisor: Supervisor;
  readonly vms: Vms;
  readonly devices: Devices;
  readonly consoles: Consoles;
  readonly procFiles: ProcFiles;
  readonly watches: Watches;
  readonly backups: Backups;
  readonly merges: LayerMerges;
  readonly lineage: Lineage;
  readonly rebases: Rebases;
  readonly snapshots: Snapshots;
  readonly snapshotUses: SnapshotUses;
  readonly tokens: Tokens;
  readonly tickets: Tickets;
  readonly idempotency: Idempotency;
  readonly startedAt: Date;
  /** This release. */
  readonly version: string;
}

export class Manager {
  readonly services: Services;
  readonly #options: ManagerOptions;
  #autostarted: Promise<void> = Promise.resolve();

  constructor(options: ManagerOptions) {
    const { home, store, jobs, library, fabric, createWorker, log } = options;
    this.#options = options;
    const hostPaths = new HostPaths(options.allowedPaths);
    const admission = new Admission(options.hostMemory ?? hostMemory, options.memoryLimitBytes);
    const events = new EventLog(store);
    const operations = new Operations(store, events, jobs, log);
    const images = new Images({ store, events, operations, library, hostPaths });
    const disks = new Disks({ store, events, home, library, images, hostPaths });
    const shares = new Shares(store, hostPaths, new RemoteFolders(home));
    const procFiles = new ProcFiles(hostPaths);
    const watches = new Watches({ store, events, home, log });
    const addresses = new Addresses({ store, fabric, log });
    const cloudInits = new CloudInits(store, home);
    const nat = options.nat ?? INTERNET_ONLY;
    const plugged = new PluggedNics({ store, fabric, nat, log });
    const supervisor = new Supervisor({
      store,
      events,
      admission,
      library,
      disks,
      shares,
      procFiles,
      watches,
      addresses,
      cloudInits,
      plugged,
      createWorker,
      log,
    });
    const networks = new Networks({ store, events, fabric, addresses, home, log, nat, plugged });
    const firewalls = new Firewalls({ store, events, plugged });
    followGroups(events, plugged, log);
    const nics = new Nics({ store, events, networks, firewalls, plugged });
    const merges = new LayerMerges({ store, home, library, events, operations, supervisor, log });
    disks.onForgotten = () => merges.collect();
    const vms = new Vms({
      store,
      events,
      home,
      admission,
      operations,
      images,
      nics,
      addresses,
      plugged,
      cloudInits,
      disks,
      shares,
      procFiles,
      supervisor,
      merges,
    });
    const lineageDeps = { store, home, library, events, operations, supervisor, disks, images, log };
    const rebases = new Rebases({ ...lineageDeps, merges });
    const lineage = new Lineage(lineageDeps);
    const snapshotDeps = {
      store,
      home,
      nics,
      library,
      events,
      operations,
      supervisor,
      admission,
      disks,
      vms,
      merges,
      log,
    };
    const snapshots = new Snapshots(snapshotDeps);
    const snapshotUses = new SnapshotUses({ ...snapshotDeps, snapshots });
    const stores = new BackupStores(store, home, log);
    const backups = new Backups({
      store,
      events,
      home,
      hostPaths,
      admission,
      operations,
      disks,
      nics,
      vms,
      images,
      supervisor,
      stores,
      log,
    });
    const devices = new Devices({ store, events, nics, plugged, disks, shares, supervisor, vms });
    const consoles = new Consoles({ store, events, supervisor, vms, hostPaths });
    this.services = {
      home,
      admission,
      events,
      operations,
      images,
      networks,
      firewalls,
      forwards: new Forwards({ store, events, fabric, networks, log }),
      disks,
      diskResizes: new DiskResizes({ store, events, disks, supervisor }),
      diskWork: new DiskWork({ events, operations, disks, supervisor }),
      transfers: new Transfers({ store, home, library, operations, disks, images, supervisor, snapshots }),
      supervisor,
      vms,
      devices,
      consoles,
      procFiles,
      watches,
      backups,
      merges,
      lineage,
      rebases,
      snapshots,
      snapshotUses,
      tokens: new Tokens(store, events),
      tickets: new Tickets(),
      idempotency: new Idempotency(store),
      startedAt: new Date(),
      version: options.version,
    };
  }

  /** Finds everything as it was, then takes up the jobs. */
  async start(): Promise<void> {
    const { home, jobs } = this.#options;
    const { services } = this;
    services.tokens.ensureAdmin(home.file('admin-token'));
    services.idempotency.recover();
    services.images.adopt();
    services.supervisor.recover();
    await services.networks.restore();
    await services.forwards.restore();
    await services.operations.recover();
    await services.merges.recover();
    services.snapshots.recover();
    await services.backups.recover();
    services.images.processJobs(jobs);
    services.backups.processJobs(jobs);
    services.merges.processJobs(jobs);
    services.rebases.processJobs(jobs);
    services.snapshots.processJobs(jobs);
    jobs.process('retention', async () => {
      services.operations.sweep();
      services.idempotency.sweep();
      services.transfers.sweep();
      await services.backups.sweep();
    });
    await jobs.start();
    await services.transfers.recover();
    services.merges.collect();
    services.backups.schedules.start();
    await jobs.repeat('retention', 'retention', {}, RETENTION_EVERY_MS);
    services.events.append({ type: 'daemon.started', tenant: null, data: { pid: process.pid } });
  }

  /** Boots the VMs that shall run, in the background. */
  autostart(): void {
    this.#autostarted = this.services.supervisor.autostart();
  }

  /** Halts the machines with their disks flushed and lets go of everything but the store and the home. */
  async close(): Promise<void> {
    const { jobs, fabric } = this.#options;
    this.services.events.append({ type: 'daemon.stopping', tenant: null });
    // Jobs first: a backup that goes on would hold a machine.
    await this.services.backups.schedules.close();
    await jobs.close();
    await this.services.backups.close();
    await this.services.supervisor.close();
    await this.services.operations.close();
    await this.#autostarted;
    await fabric.close();
  }
}
