/** Virtio devices: one row per type, and how a machine's set of them is plugged in. */
import type { Board } from '../../machine/bus.ts';
import type { PciBus } from '../pci/index.ts';
import { type BalloonHandle, type BalloonOptions, balloon } from './balloon.ts';
import { type BlockHandle, type BlockOptions, block } from './block.ts';
import { type ConsoleHandle, type ConsoleOptions, type ConsolePortOptions, consoles } from './console.ts';
import type { VirtioCounters, VirtioDefinition, VirtioModel } from './device.ts';
import { type NetHandle, type NetOptions, net } from './net.ts';
import { type P9Counters, type P9Options, p9 } from './p9.ts';
import { VirtioPci } from './pci-transport.ts';
import { type RngCounters, rng } from './rng.ts';

export type { BalloonOptions } from './balloon.ts';
export type { BlockCounters, BlockHandle, BlockOptions } from './block.ts';
export type { ConsoleHandle, ConsolePortOptions } from './console.ts';
export type { VirtioCounters } from './device.ts';
export type { NetCounters, NetHandle, NetOptions } from './net.ts';
export type { P9Counters, P9Options } from './p9.ts';

/** Every device type. */
export const VIRTIO_DEVICES = { block, net, console: consoles, rng, p9, balloon } as const;

/** What the machine keeps of a plugged device. */
export interface VirtioInstance<Handle> {
  readonly handle: Handle;
  readonly slot: number;
  readonly transport: VirtioCounters;
  /** What the driver last did wrong. */
  lastFault(): string | undefined;
  /** Resolves when requests that a reset interrupted no longer touch guest memory. */
  settled(): Promise<void>;
}

/** Makes a device and plugs it into `slot`, or the first free one. */
export function plugVirtioDevice<Options, Handle>(
  board: Board,
  bus: PciBus,
  definition: VirtioDefinition<Options, Handle>,
  options: Options,
  slot?: number,
): VirtioInstance<Handle> {
  let handle: Handle | undefined;
  const device = new VirtioPci(board, definition, (host): VirtioModel => {
    const created = definition.create(host, options);
    handle = created.handle;
    return created.model;
  });
  const at = bus.plug(device, slot);
  return {
    // INVARIANT: the transport's constructor has called `create`.
    handle: handle as Handle,
    slot: at,
    transport: device.counters,
    lastFault: () => device.lastFault,
    settled: () => device.settled(),
  };
}

export interface VirtioOptions {
  readonly disks: readonly BlockOptions[];
  readonly nics: readonly NetOptions[];
  /** Ports of the one console device; none if empty. */
  readonly consoles: readonly ConsolePortOptions[];
  /** As the console device's option. */
  readonly lines?: ConsoleOptions['lines'];
  readonly rng: boolean;
  /** None when missing. */
  readonly balloon?: BalloonOptions | undefined;
  /** Folders of the host. */
  readonly shares: readonly P9Options[];
}

/** A machine's devices; disks, network cards and shares come and go while it runs. */
export interface VirtioDevices {
  readonly disks: readonly VirtioInstance<BlockHandle>[];
  readonly nics: readonly VirtioInstance<NetHandle>[];
  readonly console: VirtioInstance<ConsoleHandle> | undefined;
  readonly rng: VirtioInstance<{ readonly counters: RngCounters }> | undefined;
  readonly shares: readonly VirtioInstance<{ readonly counters: P9Counters }>[];
  readonly balloon: VirtioInstance<BalloonHandle> | undefined;
  /** RangeError when no slot is free. */
  plugDisk(options: BlockOptions): VirtioInstance<BlockHandle>;
  plugNic(options: NetOptions): VirtioInstance<NetHandle>;
  plugShare(options: P9Options): VirtioInstance<{ readonly counters: P9Counters }>;
  /** Takes the disk, network card or share out of its slot, and closes it. Resolves when it no longer touches guest memory. */
  unplug(slot: number): Promise<void>;
  /** Resolves when no request of before a reset touches guest memory: wait for it before loading a kernel. */
  settled(): Promise<void>;
}

/** Plugs a machine's virtio devices, in this order, so that the guest numbers them as they are given. */
export function createVirtioDevices(board: Board, bus: PciBus, options: VirtioOptions): VirtioDevices {
  const disks = options.disks.map((disk) => plugVirtioDevice(board, bus, block, disk));
  const nics = options.nics.map((nic) => plugVirtioDevice(board, bus, net, nic));
  const ports = options.consoles;
  const console =
    ports.length === 0
      ? undefined
      : plugVirtioDevice(board, bus, VIRTIO_DEVICES.console, {
          ports,
          lines: options.lines,
        });
  const entropy = options.rng ? plugVirtioDevice(board, bus, rng, undefined) : undefined;
  const pages =
    options.balloon === undefined ? undefined : plugVirtioDevice(board, bus, balloon, options.balloon);
  const shares = options.shares.map((share) => plugVirtioDevice(board, bus, p9, share));
  const settled = async (): Promise<void> => {
    for (const device of [...disks, ...shares]) await device.settled();
  };
  const plugDisk = (disk: BlockOptions): VirtioInstance<BlockHandle> =>
    keep(disks, plugVirtioDevice(board, bus, block, disk));
  const plugNic = (nic: NetOptions): VirtioInstance<NetHandle> =>
    keep(nics, plugVirtioDevice(board, bus, net, nic));
  const unplug = async (slot: number): Promise<void> => {
    const waited = [drop(disks, slot), drop(shares, slot)];
    drop(nics, slot);
    bus.unplug(slot);
    for (const device of waited) await device?.settled();
  };
  return {
    disks,
    nics,
    console,
    rng: entropy,
    balloon: pages,
    shares,
    plugDisk,
    plugNic,
    plugShare: (share) => keep(shares, plugVirtioDevice(board, bus, p9, share)),
    unplug,
    settled,
  };
}

function keep<Instance>(list: Instance[], instance: Instance): Instance {
  list.push(instance);
  return instance;
}

function drop<Instance extends { readonly slot: number }>(
  list: Instance[],
  slot: number,
): Instance | undefined {
  const at = list.findIndex((instance) => instance.slot === slot);
  return at < 0 ? undefined : list.splice(at, 1)[0];
}
