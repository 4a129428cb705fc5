/** A machine's disks and network cards by their device names: opened at its start, plugged in and let go while it runs; and its shares. */
import { setTimeout as delay } from 'node:timers/promises';
import { AppError } from '../contracts/errors.ts';
import { type DiskConfig, type NicConfig, type ShareConfig, shareDevice } from '../contracts/machine.ts';
import type { MachineStats, MachineWorkerData } from '../contracts/ports.ts';
import type { FileShare, NicPort } from '../engine/backends.ts';
import type { VirtioOptions } from '../engine/devices/virtio/index.ts';
import type { Machine } from '../engine/machine/machine.ts';
import { openShare } from '../hostfs/index.ts';
import { type DiskFailure, type GuestDisk, openDisk } from '../storage/guest.ts';
import { openNicPort } from '../switchd/port-rings.ts';

/** How long a guest has to let go of a device before whoever asked is told. */
export const DETACH_TIMEOUT_MS = 20_000;
/** Programs that look at every new disk have it open for a moment. */
const OPEN_GRACE_MS = 1000;
const OPEN_POLL_MS = 50;

interface DiskSlot {
  readonly backend: GuestDisk;
  readonly serial: string;
  readonly slot: number;
}
interface NicSlot {
  readonly port: NicPort;
  readonly mac: string;
  readonly slot: number;
}

/** Opens in order; what is open is closed again when one fails. */
function openAll<Config, Opened extends { close(): unknown }>(
  configs: readonly Config[],
  open: (config: Config) => Opened,
): Opened[] {
  const opened: Opened[] = [];
  return orClose(opened, () => {
    for (const config of configs) opened.push(open(config));
    return opened;
  });
}

interface OpenShare {
  readonly share: FileShare;
  readonly tag: string;
  readonly opened: Promise<void> | undefined;
  close(): unknown;
}
interface ShareSlot {
  readonly open: OpenShare;
  readonly slot: number;
}

function openOne(config: ShareConfig): OpenShare {
  const share = openShare(config);
  return { share, tag: config.tag, opened: share.opened, close: () => share.close() };
}

/** What `action` gives; `opened` is closed when it fails. */
function orClose<Result>(opened: readonly { close(): unknown }[], action: () => Result): Result {
  try {
    return action();
  } catch (error) {
    for (const one of opened) void one.close();
    throw error;
  }
}

export interface DeviceEvents {
  /** The guest has let go of a device, and it is closed. */
  gone(device: string): void;
  diskFailed(device: string, failure: DiskFailure): void;
  /** Asks whether the guest has the disk in a slot open. */
  isOpen(slot: number): boolean;
}

export class MachineDevices {
  readonly #events: DeviceEvents;
  readonly #disks = new Map<string, DiskSlot>();
  readonly #nics = new Map<string, NicSlot>();
  readonly #shares = new Map<string, ShareSlot>();
  /** What the guest was asked to let go of. */
  readonly #leaving = new Map<string, Promise<void>>();
  #machine: Machine | undefined;

  /** Opens everything, for a machine that has yet to be made. AppErrors as `openDisk`. */
  constructor({ config, nicRings }: MachineWorkerData, events: DeviceEvents) {
    this.#events = events;
    const shares = openAll(config.shares ?? [], (share) => openOne(share));
    for (const open of shares) this.#shares.set(shareDevice(open.tag), { open, slot: -1 });
    const disks = orClose(shares, () => openAll(config.disks, (disk) => this.#open(disk)));
    for (const [index, { device, serial = device }] of config.disks.entries()) {
      this.#disks.set(device, { backend: disks[index]!, serial, slot: -1 });
    }
    for (const [index, { device, mac }] of config.nics.entries()) {
      this.#nics.set(device, { port: openNicPort(nicRings[index]!), mac, slot: -1 });
    }
  }

  /** For the machine's constructor. */
  get options(): Pick<VirtioOptions, 'disks' | 'nics' | 'shares'> {
    return {
      disks: [...this.#disks.values()].map(({ backend, serial }) => ({ backend, serial })),
      nics: [...this.#nics.values()].map(({ port, mac }) => ({ port, mac })),
      shares: [...this.#shares.values()].map(({ open }) => open),
    };
  }

  /** The machine has been made with `options`. */
  joined(machine: Machine): void {
    this.#machine = machine;
    const { disks, nics, shares } = machine.virtio;
    for (const [index, [device, disk]] of [...this.#disks].entries()) {
      this.#disks.set(device, { ...disk, slot: disks[index]!.slot });
    }
    for (const [index, [device, nic]] of [...this.#nics].entries()) {
      this.#nics.set(device, { ...nic, slot: nics[index]!.slot });
    }
    for (const [index, [device, share]] of [...this.#shares].entries()) {
      this.#shares.set(device, { ...share, slot: shares[index]!.slot });
    }
  }

  /** All shares are open. AppErrors as `openShare`. */
  async opened(): Promise<void> {
    await Promise.all([...this.#shares.values()].map(({ open }) => open.opened));
  }

  /** In the order of their device names. */
  get disks(): GuestDisk[] {
    return inOrder(this.#disks).map(([, { backend }]) => backend);
  }

  /** AppError `not_found`. */
  disk(device: string): GuestDisk {
    const found = this.#disks.get(device);
    if (found !== undefined) return found.backend;
    throw noDevice(device);
  }

  #open(config: DiskConfig): GuestDisk {
    const disk = openDisk(config);
    disk.onFailure = (failure) => this.#events.diskFailed(config.device, failure);
    return disk;
  }

  /** Plugs a disk in while the machine runs. AppErrors: `conflict`, `quota_exceeded`, as `openDisk`. */
  attachDisk(config: DiskConfig): void {
    this.#requireFree(config.device);
    const backend = this.#open(config);
    const { serial = config.device } = config;
    try {
      const { slot } = this.#running().plugDisk({ backend, serial });
      this.#disks.set(config.device, { backend, serial, slot });
    } catch (error) {
      void backend.close();
      throw noRoom(error, config.device);
    }
  }

  /** Makes a disk larger, and tells the guest. AppErrors: `not_found`, as `GuestDisk.grow`. */
  async growDisk(device: string, sizeBytes: number): Promise<void> {
    const disk = this.disk(device);
    await disk.grow(sizeBytes);
    const slot = this.#disks.get(device)?.slot;
    this.#running()
      .virtio.disks.find((instance) => instance.slot === slot)
      ?.handle.resized();
  }

  /** As `attachDisk`, for a network card. */
  attachNic({ device, mac }: NicConfig, port: NicPort): void {
    this.#requireFree(device);
    try {
      const { slot } = this.#running().plugNic({ port, mac });
      this.#nics.set(device, { port, mac, slot });
    } catch (error) {
      port.close();
      throw noRoom(error, device);
    }
  }

  /** As `attachDisk`, for a folder of the host. AppErrors as `openShare` too. */
  async attachShare(config: ShareConfig): Promise<void> {
    const device = shareDevice(config.tag);
    this.#requireFree(device);
    const open = openOne(config);
    try {
      await open.opened;
      this.#requireFree(device);
      const { slot } = this.#running().plugShare(open);
      this.#shares.set(device, { open, slot });
    } catch (error) {
      open.close();
      throw noRoom(error, device);
    }
  }

  /**
   * Asks the guest to let go of a device; resolves when it has and the device is closed. AppErrors: `not_found`, `conflict`,
   * `in_use` for a disk that the guest has open, as far as its kernel can be read; `guest_not_responding` when it takes too long: the device goes when the guest lets go of it after all, or reboots.
   */
  async detach(device: string): Promise<void> {
    const { slot } = this.#find(device);
    const machine = this.#running();
    if (machine.isStopped) {
      throw new AppError('conflict', 'the VM is stopped: its guest cannot let go of a device', {
        remedy: 'let it go on with go',
      });
    }
    if (this.#disks.has(device)) await this.#requireClosed(device, slot);
    const gone = machine.unplug(slot);
    if (!this.#leaving.has(device)) {
      const leaving = gone.then(() => this.#gone(device));
      this.#leaving.set(device, leaving);
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), DETACH_TIMEOUT_MS);
    });
    const result = await Promise.race([this.#leaving.get(device), late]);
    clearTimeout(timer);
    if (result === 'late') {
      throw new AppError('guest_not_responding', `the guest did not let go of ${device} in time`, {
        field: 'device',
        remedy:
          'it goes when the guest lets go of it or reboots; a guest that is still booting can be asked again',
      });
    }
  }

  /** Linux lets go of a disk that is mounted too: what is written to it afterwards would be lost. */
  async #requireClosed(device: string, slot: number): Promise<void> {
    const deadline = performance.now() + OPEN_GRACE_MS;
    while (this.#events.isOpen(slot)) {
      if (performance.now() > deadline) {
        throw new AppError('in_use', `the guest has ${device} open`, {
          field: 'device',
          remedy: 'unmount it there first, and end what else uses it: swap, LVM, RAID',
        });
      }
      await delay(OPEN_POLL_MS);
    }
  }

  stats(): Pick<MachineStats, 'disks' | 'nics'> {
    const bySlot = new Map(this.#machine?.virtio.nics.map(({ slot, handle }) => [slot, handle.counters]));
    return {
      disks: this.disks.map((disk) => disk.stats),
      nics: inOrder(this.#nics).flatMap(([device, { slot }]) => {
        const counters = bySlot.get(slot);
        if (counters === undefined) return [];
        const { rxFrames, rxBytes, txFrames, txBytes } = counters;
        return [{ device, rxFrames, rxBytes, txFrames, txBytes }];
      }),
    };
  }

  async close(): Promise<void> {
    for (const { port } of this.#nics.values()) port.close();
    const backends = [...this.#disks.values()].map(({ backend }) => backend);
    const shares = [...this.#shares.values()].map(({ open }) => open);
    await Promise.all([...backends, ...shares].map((one) => one.close()));
  }

  /** The card closes its port itself when it is taken out. */
  async #gone(device: string): Promise<void> {
    this.#leaving.delete(device);
    const disk = this.#disks.get(device);
    this.#disks.delete(device);
    this.#nics.delete(device);
    const share = this.#shares.get(device);
    this.#shares.delete(device);
    try {
      await disk?.backend.close();
      await share?.open.close();
    } finally {
      this.#events.gone(device);
    }
  }

  #find(device: string): { readonly slot: number } {
    const found = this.#disks.get(device) ?? this.#nics.get(device) ?? this.#shares.get(device);
    if (found !== undefined) return found;
    throw noDevice(device);
  }

  #requireFree(device: string): void {
    if (!this.#disks.has(device) && !this.#nics.has(device) && !this.#shares.has(device)) return;
    throw new AppError('conflict', `the machine has a ${device} already`, { field: 'device' });
  }

  #running(): Machine {
    // INVARIANT: requests come when the machine has been made.
    return this.#machine!;
  }
}

/** As the daemon's database lists them: ubd2 before ubd10. */
function inOrder<T>(devices: ReadonlyMap<string, T>): [string, T][] {
  return [...devices].sort(([a], [b]) => a.length - b.length || (a < b ? -1 : 1));
}

function noDevice(device: string): AppError {
  return new AppError('not_found', `the machine has no ${device}`, { field: 'device' });
}

function noRoom(error: unknown, device: string): unknown {
  if (!(error instanceof RangeError)) return error;
  return new AppError('quota_exceeded', `the machine has no room for ${device}: ${error.message}`, {
    field: 'device',
    remedy: 'remove another device first',
    cause: error,
  });
}
