import { BackupTable } from './backups.ts';
import { CloudInitTable } from './cloud-init.ts';
import type { Sqlite } from './database.ts';
import { DestinationTable } from './destinations.ts';
import { DiskTable } from './disks.ts';
import { EventTable } from './events.ts';
import { ForwardTable } from './forwards.ts';
import { FirewallTable } from './firewalls.ts';
import { ImageTable } from './images.ts';
import { LineTable } from './lines.ts';
import { AddressTable, NetworkTable } from './networks.ts';
import { LayerTable } from './layers.ts';
import { OperationTable } from './operations.ts';
import { ScheduleTable } from './schedules.ts';
import { ShareTable } from './shares.ts';
import { IdempotencyTable, TokenTable } from './tokens.ts';
import { SnapshotTable } from './snapshots.ts';
import { VmTable } from './vms.ts';

/** All tables of the daemon's database, with prepared statements. */
export class Store {
  readonly db: Sqlite;
  readonly vms: VmTable;
  readonly images: ImageTable;
  readonly lines: LineTable;
  readonly networks: NetworkTable;
  readonly addresses: AddressTable;
  readonly firewalls: FirewallTable;
  readonly cloudInit: CloudInitTable;
  readonly layers: LayerTable;
  readonly forwards: ForwardTable;
  readonly disks: DiskTable;
  readonly shares: ShareTable;
  readonly snapshots: SnapshotTable;
  readonly backups: BackupTable;
  readonly destinations: DestinationTable;
  readonly schedules: ScheduleTable;
  readonly operations: OperationTable;
  readonly events: EventTable;
  readonly tokens: TokenTable;
  readonly idempotency: IdempotencyTable;
  readonly #afterCommit: (() => void)[] = [];

  constructor(db: Sqlite) {
    this.db = db;
    this.vms = new VmTable(db);
    this.images = new ImageTable(db);
    this.lines = new LineTable(db);
    this.networks = new NetworkTable(db);
    this.addresses = new AddressTable(db);
    this.firewalls = new FirewallTable(db);
    this.cloudInit = new CloudInitTable(db);
    this.forwards = new ForwardTable(db);
    this.shares = new ShareTable(db);
    this.layers = new LayerTable(db);
    this.disks = new DiskTable(db, this.layers);
    this.snapshots = new SnapshotTable(db);
    this.backups = new BackupTable(db);
    this.destinations = new DestinationTable(db);
    this.schedules = new ScheduleTable(db);
    this.operations = new OperationTable(db);
    this.events = new EventTable(db);
    this.tokens = new TokenTable(db);
    this.idempotency = new IdempotencyTable(db);
  }

  /** Runs `work` (synchronous) in one transaction, all or nothing; inside another one it joins that. */
  transaction<T>(work: () => T): T {
    if (this.db.inTransaction) return work();
    let result: T;
    try {
      result = this.db.transaction(work).immediate();
    } catch (error) {
      this.#afterCommit.length = 0;
      throw error;
    }
    for (const tell of this.#afterCommit.splice(0)) tell();
    return result;
  }

  /** Calls `tell` when what was written is committed: at once outside of a transaction, never after a rollback. */
  afterCommit(tell: () => void): void {
    if (this.db.inTransaction) this.#afterCommit.push(tell);
    else tell();
  }

  close(): void {
    this.db.close();
  }
}
