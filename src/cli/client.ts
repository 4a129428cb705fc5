/** The API as typed methods. Resources are named by id or name. */
import type WebSocket from 'ws';
import type { z } from 'zod';
import {
  ApiInfo,
  type AttachDisk,
  type AttachNicInput,
  Backup,
  type BackupCreateInput,
  BackupDestination,
  type BackupDestinationCreateInput,
  BackupDestinationPage,
  type BackupFile,
  BackupFilePage,
  type BackupFileSystem,
  BackupFileSystems,
  BackupPage,
  type BackupPruneInput,
  type BackupRestoreInput,
  type BackupTest,
  BackupSchedule,
  type BackupScheduleCreateInput,
  BackupSchedulePage,
  type BackupScheduleUpdate,
  Console,
  ConsoleList,
  ConsoleTicket,
  Disk,
  type DiskCreateInput,
  type DiskExportInput,
  type DiskImportQuery,
  type DiskResize,
  type DiskSettings,
  type DiskToImage,
  DiskPage,
  DiskRepair,
  DiskSharers,
  DiskTree,
  DiskUsage,
  EventPage,
  EventTicket,
  Firewall,
  type FirewallCreateInput,
  FirewallPage,
  type FirewallUpdateInput,
  HostInfo,
  Image,
  type ImageBuildInput,
  type ImageFileRole,
  type ImageImport,
  ImageDependents,
  ImagePage,
  MconsoleResult,
  Forward,
  type ForwardCreateInput,
  Forwards,
  Network,
  NetworkAddress,
  NetworkAddresses,
  type NetworkCreateInput,
  type NetworkUpdateInput,
  NetworkPage,
  NetworkPorts,
  NetworkStations,
  type NicUpdateInput,
  Operation,
  OperationPage,
  type ReservationCreate,
  PruneResult,
  type ShareCreateInput,
  type SnapshotCloneInput,
  type SnapshotCreateInput,
  type SnapshotRollbackInput,
  Vm,
  type VmCreateInput,
  VmPage,
  VmPlan,
  VmSnapshot,
  VmSnapshotPage,
  VmStats,
  type VmUpdate,
} from '../contracts/api/index.ts';
import { type Query, Transport, type TransportOptions } from './transport.ts';

/** Of a list request; the daemon's most. */
const PAGE_LIMIT = 1000;

type Segment = string;

/** Encodes what is put between the slashes. */
function path(parts: TemplateStringsArray, ...names: Segment[]): string {
  return String.raw({ raw: parts }, ...names.map((name) => encodeURIComponent(name)));
}

interface PageLike<T> {
  readonly items: readonly T[];
  readonly next_cursor: string | null;
}

export class Client {
  readonly #transport: Transport;

  constructor(options: TransportOptions) {
    this.#transport = new Transport(options);
  }

  getApi = (): Promise<ApiInfo> => this.#transport.call(ApiInfo, '/v1');
  getHost = (): Promise<HostInfo> => this.#transport.call(HostInfo, '/v1/host');

  listVms = (query: Query = {}): Promise<Vm[]> => this.#all(VmPage, '/v1/vms', query);
  getVm = (vm: string): Promise<Vm> => this.#transport.call(Vm, path`/v1/vms/${vm}`);
  createVm = (body: VmCreateInput): Promise<Vm> => this.#post(Vm, '/v1/vms', body);
  planVm = (body: VmCreateInput): Promise<VmPlan> => this.#post(VmPlan, '/v1/vms', body, { dry_run: true });
  updateVm = (vm: string, body: VmUpdate): Promise<Vm> =>
    this.#transport.call(Vm, path`/v1/vms/${vm}`, { method: 'PATCH', body });
  deleteVm = (vm: string): Promise<void> => this.#delete(path`/v1/vms/${vm}`);
  getVmStats = (vm: string): Promise<VmStats> => this.#transport.call(VmStats, path`/v1/vms/${vm}/stats`);
  waitVm = (vm: string, state: Vm['state'], timeoutSeconds: number): Promise<Vm> =>
    this.#transport.call(Vm, path`/v1/vms/${vm}/wait`, { query: { state, timeout: timeoutSeconds } });
  startVm = (vm: string): Promise<Operation> => this.#post(Operation, path`/v1/vms/${vm}/start`);
  haltVm = (vm: string): Promise<Operation> => this.#post(Operation, path`/v1/vms/${vm}/halt`);
  rebootVm = (vm: string): Promise<Operation> => this.#post(Operation, path`/v1/vms/${vm}/reboot`);
  shutdownVm = (vm: string): Promise<Operation> => this.#post(Operation, path`/v1/vms/${vm}/shutdown`);
  stopVm = (vm: string): Promise<Vm> => this.#post(Vm, path`/v1/vms/${vm}/stop`);
  goVm = (vm: string): Promise<Vm> => this.#post(Vm, path`/v1/vms/${vm}/go`);
  cadVm = (vm: string): Promise<Vm> => this.#post(Vm, path`/v1/vms/${vm}/cad`);
  sysrqVm = (vm: string, letter: string): Promise<Vm> =>
    this.#post(Vm, path`/v1/vms/${vm}/sysrq`, { letter });
  attachNic = (vm: string, body: AttachNicInput): Promise<Vm> =>
    this.#post(Vm, path`/v1/vms/${vm}/nics`, body);
  updateNic = (vm: string, device: string, body: NicUpdateInput): Promise<Vm> =>
    this.#transport.call(Vm, path`/v1/vms/${vm}/nics/${device}`, { method: 'PATCH', body });
  detachNic = (vm: string, device: string): Promise<Vm> =>
    this.#transport.call(Vm, path`/v1/vms/${vm}/nics/${device}`, { method: 'DELETE' });
  attachDisk = (vm: string, body: AttachDisk): Promise<Vm> => this.#post(Vm, path`/v1/vms/${vm}/disks`, body);
  detachDisk = (vm: string, device: string): Promise<Vm> =>
    this.#transport.call(Vm, path`/v1/vms/${vm}/disks/${device}`, { method: 'DELETE' });
  /** JSON lines. */
  getTrace = (vm: string): Promise<Uint8Array> => this.#transport.bytes(path`/v1/vms/${vm}/trace`);
  getTtyLog = (vm: string, query: Query): Promise<Uint8Array> =>
    this.#transport.bytes(path`/v1/vms/${vm}/tty-log`, { query });
  addShare = (vm: string, body: ShareCreateInput): Promise<Vm> =>
    this.#post(Vm, path`/v1/vms/${vm}/shares`, body);
  removeShare = (vm: string, tag: string): Promise<Vm> =>
    this.#transport.call(Vm, path`/v1/vms/${vm}/shares/${tag}`, { method: 'DELETE' });

  mconsole = (vm: string, command: string): Promise<MconsoleResult> =>
    this.#post(MconsoleResult, path`/v1/vms/${vm}/mconsole`, { command });

  listDisks = (query: Query = {}): Promise<Disk[]> => this.#all(DiskPage, '/v1/disks', query);
  getDisk = (disk: string): Promise<Disk> => this.#transport.call(Disk, path`/v1/disks/${disk}`);
  createDisk = (body: DiskCreateInput): Promise<Disk> => this.#post(Disk, '/v1/disks', body);
  updateDisk = (disk: string, body: DiskSettings): Promise<Disk> =>
    this.#transport.call(Disk, path`/v1/disks/${disk}`, { method: 'PATCH', body });
  /** `file` may be larger than memory. */
  importDisk = (file: Blob, query: DiskImportQuery): Promise<Operation> =>
    this.#transport.call(Operation, '/v1/disks/import', { method: 'POST', query, file });
  exportDisk = (disk: string, body: DiskExportInput): Promise<Operation> =>
    this.#post(Operation, path`/v1/disks/${disk}/export`, body);
  imageOfDisk = (disk: string, body: DiskToImage): Promise<Operation> =>
    this.#post(Operation, path`/v1/disks/${disk}/image`, body);
  /** What an operation has made for download. */
  listBackupFileSystems = async (backup: string): Promise<BackupFileSystem[]> =>
    (await this.#transport.call(BackupFileSystems, path`/v1/backups/${backup}/file-systems`)).items;
  listBackupFiles = (backup: string, query: Query): Promise<BackupFile[]> =>
    this.#all(BackupFilePage, path`/v1/backups/${backup}/files`, query);
  readBackupFile = (backup: string, query: Query): Promise<Response> =>
    this.#transport.download(path`/v1/backups/${backup}/files/content`, query);
  downloadFile = (operation: string): Promise<Response> =>
    this.#transport.download(path`/v1/operations/${operation}/file`);
  deleteFile = (operation: string): Promise<void> => this.#delete(path`/v1/operations/${operation}/file`);
  resizeDisk = (disk: string, body: DiskResize): Promise<Disk> =>
    this.#post(Disk, path`/v1/disks/${disk}/resize`, body);
  shrinkDisk = (disk: string): Promise<Operation> => this.#post(Operation, path`/v1/disks/${disk}/shrink`);
  deleteDisk = (disk: string): Promise<void> => this.#delete(path`/v1/disks/${disk}`);

  getDiskTree = (disk: string): Promise<DiskTree> =>
    this.#transport.call(DiskTree, path`/v1/disks/${disk}/tree`);
  getDiskUsage = (disk: string): Promise<DiskUsage> =>
    this.#transport.call(DiskUsage, path`/v1/disks/${disk}/usage`);
  getDiskSharers = (disk: string, offset: number): Promise<DiskSharers> =>
    this.#transport.call(DiskSharers, path`/v1/disks/${disk}/sharers`, { query: { offset } });
  getImageDependents = (image: string): Promise<ImageDependents> =>
    this.#transport.call(ImageDependents, path`/v1/images/${image}/dependents`);
  repairDisk = (disk: string): Promise<DiskRepair> => this.#post(DiskRepair, path`/v1/disks/${disk}/repair`);
  rebaseDisk = (disk: string, image: string): Promise<Operation> =>
    this.#post(Operation, path`/v1/disks/${disk}/rebase`, { image });
  flattenDisk = (disk: string): Promise<Operation> => this.#post(Operation, path`/v1/disks/${disk}/flatten`);

  listImages = (query: Query = {}): Promise<Image[]> => this.#all(ImagePage, '/v1/images', query);
  getImage = (image: string): Promise<Image> => this.#transport.call(Image, path`/v1/images/${image}`);
  buildImage = (body: ImageBuildInput): Promise<Operation> => this.#post(Operation, '/v1/images/build', body);
  importImage = (body: ImageImport): Promise<Operation> => this.#post(Operation, '/v1/images/import', body);
  verifyImage = (image: string): Promise<Operation> =>
    this.#post(Operation, path`/v1/images/${image}/verify`);
  downloadImageFile = (image: string, role: ImageFileRole): Promise<Response> =>
    this.#transport.download(path`/v1/images/${image}/files/${role}`);
  deleteImage = (image: string): Promise<void> => this.#delete(path`/v1/images/${image}`);

  listNetworks = (query: Query = {}): Promise<Network[]> => this.#all(NetworkPage, '/v1/networks', query);
  getNetwork = (network: string): Promise<Network> =>
    this.#transport.call(Network, path`/v1/networks/${network}`);
  createNetwork = (body: NetworkCreateInput): Promise<Network> => this.#post(Network, '/v1/networks', body);
  updateNetwork = (network: string, body: NetworkUpdateInput): Promise<Network> =>
    this.#transport.call(Network, path`/v1/networks/${network}`, { method: 'PATCH', body });
  deleteNetwork = (network: string): Promise<void> => this.#delete(path`/v1/networks/${network}`);
  listFirewalls = (query: Query = {}): Promise<Firewall[]> => this.#all(FirewallPage, '/v1/firewalls', query);
  getFirewall = (firewall: string): Promise<Firewall> =>
    this.#transport.call(Firewall, path`/v1/firewalls/${firewall}`);
  createFirewall = (body: FirewallCreateInput): Promise<Firewall> =>
    this.#post(Firewall, '/v1/firewalls', body);
  updateFirewall = (firewall: string, body: FirewallUpdateInput): Promise<Firewall> =>
    this.#transport.call(Firewall, path`/v1/firewalls/${firewall}`, { method: 'PATCH', body });
  deleteFirewall = (firewall: string): Promise<void> => this.#delete(path`/v1/firewalls/${firewall}`);
  listNetworkPorts = async (network: string): Promise<NetworkPorts['items']> =>
    (await this.#transport.call(NetworkPorts, path`/v1/networks/${network}/ports`)).items;
  listNetworkStations = async (network: string): Promise<NetworkStations['items']> =>
    (await this.#transport.call(NetworkStations, path`/v1/networks/${network}/mac-table`)).items;
  captureNetwork = (network: string, query: Query): Promise<ReadableStream<Uint8Array>> =>
    this.#transport.stream(path`/v1/networks/${network}/capture`, query);
  captureNic = (vm: string, device: string, query: Query): Promise<ReadableStream<Uint8Array>> =>
    this.#transport.stream(path`/v1/vms/${vm}/nics/${device}/capture`, query);
  listNetworkAddresses = async (network: string): Promise<NetworkAddress[]> =>
    (await this.#transport.call(NetworkAddresses, path`/v1/networks/${network}/addresses`)).items;
  reserveAddress = (network: string, body: ReservationCreate): Promise<NetworkAddress> =>
    this.#post(NetworkAddress, path`/v1/networks/${network}/addresses`, body);
  listForwards = async (network: string): Promise<Forward[]> =>
    (await this.#transport.call(Forwards, path`/v1/networks/${network}/forwards`)).items;
  createForward = (network: string, body: ForwardCreateInput): Promise<Forward> =>
    this.#post(Forward, path`/v1/networks/${network}/forwards`, body);
  deleteForward = (network: string, forward: string): Promise<void> =>
    this.#delete(path`/v1/networks/${network}/forwards/${forward}`);
  releaseAddress = (network: string, address: string): Promise<void> =>
    this.#delete(path`/v1/networks/${network}/addresses/${address}`);

  listBackups = (query: Query = {}): Promise<Backup[]> => this.#all(BackupPage, '/v1/backups', query);
  getBackup = (backup: string): Promise<Backup> => this.#transport.call(Backup, path`/v1/backups/${backup}`);
  createBackup = (vm: string, body: BackupCreateInput): Promise<Operation> =>
    this.#post(Operation, path`/v1/vms/${vm}/backups`, body);
  restoreBackup = (backup: string, body: BackupRestoreInput): Promise<Operation> =>
    this.#post(Operation, path`/v1/backups/${backup}/restore`, body);
  verifyBackup = (backup: string): Promise<Operation> =>
    this.#post(Operation, path`/v1/backups/${backup}/verify`);
  testBackup = (backup: string, body: BackupTest): Promise<Operation> =>
    this.#post(Operation, path`/v1/backups/${backup}/test`, body);
  pruneBackups = (vm: string, body: BackupPruneInput): Promise<PruneResult> =>
    this.#post(PruneResult, path`/v1/vms/${vm}/backups/prune`, body);
  deleteBackup = (backup: string): Promise<void> => this.#delete(path`/v1/backups/${backup}`);

  createSnapshot = (vm: string, body: SnapshotCreateInput): Promise<VmSnapshot> =>
    this.#post(VmSnapshot, path`/v1/vms/${vm}/snapshots`, body);
  listSnapshots = (vm: string): Promise<VmSnapshot[]> =>
    this.#all(VmSnapshotPage, path`/v1/vms/${vm}/snapshots`, {});
  getSnapshot = (vm: string, snapshot: string): Promise<VmSnapshot> =>
    this.#transport.call(VmSnapshot, path`/v1/vms/${vm}/snapshots/${snapshot}`);
  deleteSnapshot = (vm: string, snapshot: string, query: Query = {}): Promise<Operation> =>
    this.#transport.call(Operation, path`/v1/vms/${vm}/snapshots/${snapshot}`, { method: 'DELETE', query });
  rollbackSnapshot = (vm: string, snapshot: string, body: SnapshotRollbackInput): Promise<Operation> =>
    this.#post(Operation, path`/v1/vms/${vm}/snapshots/${snapshot}/rollback`, body);
  cloneSnapshot = (vm: string, snapshot: string, body: SnapshotCloneInput): Promise<Vm> =>
    this.#post(Vm, path`/v1/vms/${vm}/snapshots/${snapshot}/clone`, body);
  listBackupDestinations = (query: Query = {}): Promise<BackupDestination[]> =>
    this.#all(BackupDestinationPage, '/v1/backup-destinations', query);
  createBackupDestination = (body: BackupDestinationCreateInput): Promise<BackupDestination> =>
    this.#post(BackupDestination, '/v1/backup-destinations', body);
  takeOverBackupDestination = (destination: string): Promise<BackupDestination> =>
    this.#post(BackupDestination, path`/v1/backup-destinations/${destination}/take-over`);
  deleteBackupDestination = (destination: string): Promise<void> =>
    this.#delete(path`/v1/backup-destinations/${destination}`);
  verifyBackupDestination = (destination: string): Promise<Operation> =>
    this.#post(Operation, path`/v1/backup-destinations/${destination}/verify`);
  collectBackupDestination = (destination: string): Promise<Operation> =>
    this.#post(Operation, path`/v1/backup-destinations/${destination}/collect`);
  rebuildBackupDestination = (destination: string): Promise<Operation> =>
    this.#post(Operation, path`/v1/backup-destinations/${destination}/rebuild`);

  listBackupSchedules = (query: Query = {}): Promise<BackupSchedule[]> =>
    this.#all(BackupSchedulePage, '/v1/backup-schedules', query);
  getBackupSchedule = (schedule: string): Promise<BackupSchedule> =>
    this.#transport.call(BackupSchedule, path`/v1/backup-schedules/${schedule}`);
  createBackupSchedule = (vm: string, body: BackupScheduleCreateInput): Promise<BackupSchedule> =>
    this.#post(BackupSchedule, path`/v1/vms/${vm}/backup-schedules`, body);
  updateBackupSchedule = (schedule: string, body: BackupScheduleUpdate): Promise<BackupSchedule> =>
    this.#transport.call(BackupSchedule, path`/v1/backup-schedules/${schedule}`, { method: 'PATCH', body });
  deleteBackupSchedule = (schedule: string): Promise<void> =>
    this.#delete(path`/v1/backup-schedules/${schedule}`);

  listOperations = (query: Query = {}): Promise<Operation[]> =>
    this.#all(OperationPage, '/v1/operations', query);
  getOperation = (operation: string): Promise<Operation> =>
    this.#transport.call(Operation, path`/v1/operations/${operation}`);
  /** The operation when it has ended, or as it is after `timeoutSeconds`. */
  waitOperation = (operation: string, timeoutSeconds: number): Promise<Operation> =>
    this.#transport.call(Operation, path`/v1/operations/${operation}/wait`, {
      query: { timeout: timeoutSeconds },
    });
  cancelOperation = (operation: string): Promise<Operation> =>
    this.#transport.call(Operation, path`/v1/operations/${operation}`, { method: 'DELETE' });

  listEvents = (query: Query): Promise<EventPage> => this.#transport.call(EventPage, '/v1/events', { query });

  /** Raw bytes both ways, as binary messages. The scrollback comes first. */
  listConsoles = async (vm: string): Promise<Console[]> =>
    (await this.#transport.call(ConsoleList, path`/v1/vms/${vm}/consoles`)).items;
  updateConsole = (vm: string, console: string, channel: string): Promise<Console> =>
    this.#transport.call(Console, path`/v1/vms/${vm}/consoles/${console}`, {
      method: 'PATCH',
      body: { channel },
    });

  async openConsole(vm: string, console: string, readOnly: boolean): Promise<WebSocket> {
    const route = path`/v1/vms/${vm}/consoles/${console}/ticket`;
    const ticket = await this.#post(ConsoleTicket, route, { read_only: readOnly });
    return this.#transport.open(ticket.path);
  }

  /** One JSON text message per event; those after `after`, or only new ones. */
  async openEvents(query: { readonly after?: number; readonly type?: string }): Promise<WebSocket> {
    const ticket = await this.#post(EventTicket, '/v1/events/ticket');
    const address = new URL(ticket.path, 'http://daemon');
    for (const [key, value] of Object.entries(query)) {
      if (value !== undefined) address.searchParams.set(key, String(value));
    }
    return this.#transport.open(`${address.pathname}${address.search}`);
  }

  #post<S extends z.ZodType>(
    schema: S,
    route: string,
    body: unknown = {},
    query: Query = {},
  ): Promise<z.output<S>> {
    return this.#transport.call(schema, route, { method: 'POST', body, query });
  }

  #delete(route: string): Promise<void> {
    return this.#transport.send(route, { method: 'DELETE' });
  }

  /** All pages. */
  async #all<T>(schema: z.ZodType<PageLike<T>>, route: string, query: Query): Promise<T[]> {
    const items: T[] = [];
    let cursor: string | undefined;
    do {
      const page = await this.#transport.call(schema, route, {
        query: { ...query, limit: PAGE_LIMIT, cursor },
      });
      items.push(...page.items);
      cursor = page.next_cursor ?? undefined;
    } while (cursor !== undefined);
    return items;
  }
}
