/**
 * Layers that nobody needs for themselves any more. One without layers over it is removed. One with a single layer over
 * it takes in what that has, and then has that one's name: while machines run, at a limited rate, and taken up again
 * after a crash. All the time, and after a crash at any moment, every disk reads the same.
 *
 * The order that sees to it: the lower layer is marked as `merging` before it is written to, so that its modification
 * time is not held against it; it is written only where the upper one hides it; when it has everything, durable, it is
 * renamed to the upper one's name; then the database is told. A rename that the database has not heard of is told by
 * the missing file.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { AppError, toAppError } from '../../contracts/errors.ts';
import type { JobContext, JobPayloads, Jobs } from '../../contracts/jobs.ts';
import type { DiskRow, LayerRow, Store } from '../../db/index.ts';
import { mergeLayers, replaceLayer, stampLayer } from '../../storage/index.ts';
import type { EventLog } from '../events.ts';
import type { Home } from '../home.ts';
import type { Instance } from '../instance/instance.ts';
import type { MachineLink } from '../instance/machine-link.ts';
import type { Operations } from '../operations.ts';
import type { ImageLibrary, Log } from '../ports.ts';
import { layerConfig, layerFile, removeVmFolder } from './layer-files.ts';
import type { Supervisor } from './supervisor.ts';

export interface LayerMergeDeps {
  readonly store: Store;
  readonly home: Home;
  readonly library: ImageLibrary;
  readonly events: EventLog;
  readonly operations: Operations;
  readonly supervisor: Supervisor;
  readonly log: Log;
}

/** So much of the host's bandwidth merges take when nobody says otherwise. */
export const MERGE_BYTES_PER_SECOND = 100 << 20;

export interface MergeContext {
  readonly bytesPerSecond?: number | undefined;
  readonly signal: AbortSignal;
  readonly progress: (done: number, total: number) => void;
}

interface Plan {
  readonly lower: LayerRow;
  readonly upper: LayerRow;
  /** The one that writes to the upper layer, if that is a top. */
  readonly disk: DiskRow | undefined;
}

/** A top layer that is merged while no machine has it. */
interface Claim {
  readonly layerId: string;
  readonly abort: AbortController;
  /** Its files are closed. */
  readonly closed: Promise<void>;
  /** A machine wanted it: what was copied may be out of date. */
  lost: boolean;
}

export class LayerMerges {
  readonly #deps: LayerMergeDeps;
  readonly #claims = new Set<Claim>();
  /** Layers of the graphs in which a merge goes on. */
  readonly #busy = new Map<ReadonlySet<string>, Promise<void>>();

  constructor(deps: LayerMergeDeps) {
    this.#deps = deps;
    deps.supervisor.beforeOpening((vmId) => this.release(vmId));
  }

  /** Ends what is done to the disks of a VM without a machine, so that a machine can have them; it begins again later. */
  async release(vmId: string): Promise<void> {
    const { disks, layers } = this.#deps.store;
    const chains = disks.ofVm(vmId).map((disk) => layers.chain(disk.layer_id));
    for (const [, below] of chains) {
      // What a machine writes now would not be in what was copied before.
      if (below?.state === 'merging') layers.setMerged(below.id, 0);
    }
    const claims = [...this.#claims].filter((claim) => disks.byLayer(claim.layerId)?.vm_id === vmId);
    for (const claim of claims) {
      claim.lost = true;
      claim.abort.abort(outOfDate('a machine takes the disk'));
    }
    await Promise.all(claims.map((claim) => claim.closed));
    // Of a snapshot whose machine ended in between.
    if (this.#deps.supervisor.get(vmId).hasMachine) return;
    for (const layer of chains.flat()) if (layer.state === 'sealing') await this.seal(layer);
  }

  /** Removes what nobody needs and nothing is over; begins merges of what only one layer is over. */
  collect(): void {
    const { store } = this.#deps;
    for (;;) {
      const dead = store.layers.loose().filter((layer) => layer.children === 0);
      if (dead.length === 0) break;
      for (const layer of dead) this.#discard(layer);
    }
    for (const layer of store.layers.loose()) if (layer.children === 1) this.#enqueue(layer);
  }

  /** The record goes first: a file without one is only garbage. */
  #discard(layer: LayerRow): void {
    const { store, home } = this.#deps;
    store.layers.remove(layer.id);
    const file = home.absolute(layer.path);
    fs.rmSync(file, { force: true });
    removeVmFolder(this.#deps, path.dirname(file));
  }

  #enqueue(layer: LayerRow): void {
    const { operations, store, log } = this.#deps;
    if (operations.openOn('layer.merge', layer.id).length > 0) return;
    if (operations.openOn('snapshot.delete', layer.id).length > 0) return;
    const [user] = store.layers.users(store.layers.over(layer.id).map(({ id }) => id));
    const resources = [{ type: 'layer', id: layer.id }] as const;
    operations
      .enqueue(
        { kind: 'layer.merge', tenant: user?.tenant ?? 'default', resources, mayCancel: true },
        'layer.merge',
        (operationId) => ({ operationId, layerId: layer.id }),
        { maxAttempts: 3 },
      )
      .catch((error: unknown) => {
        log.error({ layer: layer.id, error: String(error) }, 'a merge could not be begun');
      });
  }

  processJobs(jobs: Jobs): void {
    jobs.process('layer.merge', (payload, context) => this.#job(payload, context), { concurrency: 2 });
  }

  async #job(payload: JobPayloads['layer.merge'], context: JobContext): Promise<void> {
    const { layerId, bytesPerSecond } = payload;
    const progress = (done: number, total: number): void => context.progress({ done, total, unit: 'bytes' });
    await this.merge(layerId, { bytesPerSecond, signal: context.signal, progress });
  }

  /** Merges a layer with the only one over it, if nobody needs it and there is only one. */
  async merge(layerId: string, context: MergeContext): Promise<void> {
    for (let done = false; !done; ) {
      context.signal.throwIfAborted();
      const turn = await this.#turn(layerId);
      try {
        const plan = this.#plan(layerId);
        done = plan === undefined || (await this.#mergeOnce(plan, context));
      } finally {
        turn();
      }
    }
    this.collect();
  }

  /** Waits until no other merge goes on among the layers over or below it. Returns the function that ends the turn. */
  async #turn(layerId: string): Promise<() => void> {
    const { layers } = this.#deps.store;
    for (;;) {
      const own = layers.chain(layerId).filter(({ kind }) => kind === 'cow' || kind === 'raw');
      const mine = new Set([...own, ...layers.over(layerId)].map(({ id }) => id));
      const others = [...this.#busy].find(([theirs]) => [...theirs].some((id) => mine.has(id)));
      if (others === undefined) {
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#busy.set(mine, promise);
        return () => {
          this.#busy.delete(mine);
          resolve();
        };
      }
      await others[1];
    }
  }

  #plan(layerId: string): Plan | undefined {
    const { layers, disks } = this.#deps.store;
    const lower = layers.get(layerId);
    if (lower === undefined || lower.state === 'sealing' || layers.isNeeded(layerId)) return undefined;
    const children = layers.children(layerId);
    const [upper] = children;
    // When one is sealed `collect` looks again.
    if (upper === undefined || children.length > 1 || upper.state === 'sealing') return undefined;
    if (lower.kind !== 'cow' && lower.kind !== 'raw') return undefined;
    return { lower, upper, disk: disks.byLayer(upper.id) };
  }

  /** False: something has changed meanwhile, look again. */
  async #mergeOnce(plan: Plan, context: MergeContext): Promise<boolean> {
    try {
      const begun = await this.#begin(plan);
      if (begun === undefined) return false;
      if (begun.link !== undefined) return await this.#mergeOnline(plan, begun.link, context);
      return await this.#mergeFiles(plan, begun.claim, context);
    } catch (error) {
      if (isOutOfDate(error) && !context.signal.aborted) return false;
      await this.#giveUp(plan.lower.id, error);
      throw error;
    }
  }

  /** Marks the lower layer, with no machine starting on it. Undefined when the plan is out of date. */
  #begin(plan: Plan): Promise<{ link?: MachineLink; claim?: ClaimHandle } | undefined> {
    const { layers } = this.#deps.store;
    return this.#exclusive(layers.vmsOver(plan.lower.id), () => {
      if (!this.#isCurrent(plan)) return undefined;
      if (plan.lower.state !== 'merging') layers.setState(plan.lower.id, 'merging');
      if (plan.upper.frozen === 1) return {};
      const link = this.#linkOf(plan.disk);
      return link === undefined ? { claim: this.#claim(plan.upper.id) } : { link };
    });
  }

  #isCurrent({ lower, upper, disk }: Plan): boolean {
    const now = this.#plan(lower.id);
    return now?.upper.id === upper.id && now.upper.frozen === upper.frozen && now.disk?.id === disk?.id;
  }

  #linkOf(disk: DiskRow | undefined): MachineLink | undefined {
    if (disk?.vm_id == null) return undefined;
    const instance = this.#deps.supervisor.get(disk.vm_id);
    return instance.hasMachine ? instance.machine() : undefined;
  }

  #claim(layerId: string): ClaimHandle {
    const { promise, resolve } = Promise.withResolvers<void>();
    const claim: Claim = { layerId, abort: new AbortController(), closed: promise, lost: false };
    this.#claims.add(claim);
    return { claim, close: resolve };
  }

  /** Of layers that no machine writes to. */
  async #mergeFiles(plan: Plan, held: ClaimHandle | undefined, context: MergeContext): Promise<boolean> {
    const { store } = this.#deps;
    const { lower, upper } = plan;
    const [lowerFile, upperFile] = [this.#file(lower), this.#file(upper)];
    const signals = held === undefined ? [context.signal] : [context.signal, held.claim.abort.signal];
    try {
      try {
        await mergeLayers({
          upper: upperFile,
          lower: lowerFile,
          lowerIsRaw: lower.kind === 'raw',
          from: store.layers.get(lower.id)?.merged_bytes ?? 0,
          bytesPerSecond: context.bytesPerSecond ?? MERGE_BYTES_PER_SECOND,
          signal: AbortSignal.any(signals),
          onProgress: context.progress,
          onDurable: (bytes) => store.layers.setMerged(lower.id, bytes),
        });
      } finally {
        held?.close();
      }
      return await this.#exclusive(store.layers.vmsOver(lower.id), async () => {
        if (held?.claim.lost) throw outOfDate('a machine has had the disk');
        if (upper.mtime !== null) await stampLayer(lowerFile, upper.mtime);
        if (!this.#isCurrent(plan)) return false;
        this.#replace(plan);
        await this.#tellMachines(upper.id);
        return true;
      });
    } finally {
      if (held !== undefined) this.#claims.delete(held.claim);
    }
  }

  /** Of the top of a machine that runs. */
  async #mergeOnline(plan: Plan, link: MachineLink, context: MergeContext): Promise<boolean> {
    const { bytesPerSecond = MERGE_BYTES_PER_SECOND, signal, progress } = context;
    const { lower, upper, disk } = plan;
    // INVARIANT: only a disk's layer is written to by a machine.
    const device = disk!.device!;
    const files = { upper: this.#file(upper), lower: this.#file(lower) };
    const stop = (): void => void link.request({ type: 'finish-merge', device }).catch(() => undefined);
    signal.addEventListener('abort', stop, { once: true });
    try {
      await link.longRequest({ type: 'merge-top', device, ...files, bytesPerSecond }, progress);
    } catch (error) {
      if (link.hasEnded) throw outOfDate('the machine has ended');
      throw signal.aborted ? signal.reason : error;
    } finally {
      signal.removeEventListener('abort', stop);
    }
    return await this.#exclusive(this.#deps.store.layers.vmsOver(lower.id), async () => {
      if (link.hasEnded || this.#linkOf(disk) !== link) throw outOfDate('the machine has ended');
      if (!this.#isCurrent(plan)) {
        await link.request({ type: 'finish-merge', device });
        return false;
      }
      await holdMerge(link, device);
      try {
        this.#replace(plan);
      } catch (error) {
        await link.request({ type: 'finish-merge', device }).catch(() => undefined);
        throw error;
      }
      await link.request({ type: 'finish-merge', device, path: files.upper }).catch((error: unknown) => {
        // A machine that has ended has nothing to go on with; any other must not write to the file that is gone.
        if (!link.hasEnded) return link.kill(`its layers could not be changed: ${toAppError(error).message}`);
      });
      return true;
    });
  }

  /** The lower layer has everything: it takes the upper one's place. In one step for all others in this process. */
  #replace({ lower, upper }: Plan): void {
    const { store, events } = this.#deps;
    replaceLayer(this.#file(lower), this.#file(upper));
    store.transaction(() => {
      store.layers.merged(lower, upper.id);
      const [user] = store.layers.users(store.layers.over(upper.id).map(({ id }) => id));
      events.append({
        type: 'layer.merged',
        tenant: user?.tenant ?? null,
        resource: { type: 'layer', id: upper.id },
        data: { with: lower.id },
      });
    });
    removeVmFolder(this.#deps, path.dirname(this.#file(lower)));
  }

  /** Machines that have the old files open read the same there; they let go of them so that the space is given back. */
  async #tellMachines(layerId: string): Promise<void> {
    const { store, supervisor, log } = this.#deps;
    for (const vmId of store.layers.vmsOver(layerId)) {
      const instance = supervisor.get(vmId);
      if (!instance.hasMachine) continue;
      const over = new Set(store.layers.over(layerId).map(({ id }) => id));
      for (const disk of store.disks.ofVm(vmId).filter((row) => over.has(row.layer_id))) {
        const { file, frozen, merging } = layerConfig(this.#deps, disk.layer_id);
        const request = {
          type: 'relayer',
          device: disk.device ?? '',
          files: { file, frozen, merging },
        } as const;
        await instance
          .machine()
          .request(request)
          .catch((error: unknown) => {
            log.warn({ vm: vmId, error: String(error) }, 'a machine still has the files of a merged layer');
          });
      }
    }
  }

  /** The layer stays below the one over it, as it was: what was written to it is hidden there. */
  async #giveUp(layerId: string, why: unknown): Promise<void> {
    const { store, log } = this.#deps;
    const layer = store.layers.get(layerId);
    // The daemon ends: the next one goes on.
    if (layer?.state !== 'merging' || toAppError(why).code === 'interrupted') return;
    try {
      if (layer.mtime !== null) await stampLayer(this.#file(layer), layer.mtime);
      store.layers.setState(layerId, 'ready');
    } catch (error) {
      log.error({ layer: layerId, error: String(error) }, 'a merge was given up and its layer not put right');
    }
  }

  #file(layer: LayerRow): string {
    return layerFile(this.#deps, layer);
  }

  /** Runs `task` while nothing else changes these VMs; those that are gone are left out. */
  #exclusive<T>(vmIds: readonly string[], task: () => Promise<T> | T): Promise<T> {
    const [first, ...rest] = vmIds;
    if (first === undefined) return Promise.resolve().then(task);
    let instance: Instance;
    try {
      instance = this.#deps.supervisor.get(first);
    } catch {
      return this.#exclusive(rest, task);
    }
    return instance.exclusive(() => this.#exclusive(rest, task));
  }

  /** At start, before jobs and machines: what a process that was killed left half done. */
  async recover(): Promise<void> {
    const { store } = this.#deps;
    for (const layer of store.layers.inState('sealing')) await this.seal(layer);
    for (const lower of store.layers.inState('merging')) {
      const [upper] = store.layers.children(lower.id);
      if (upper !== undefined && !fs.existsSync(this.#file(lower)) && fs.existsSync(this.#file(upper))) {
        this.#replace({ lower, upper, disk: undefined });
      }
    }
  }

  /** Gives a layer that was frozen, and that nobody has open for writing, its time. */
  async seal(layer: LayerRow): Promise<void> {
    if (layer.mtime !== null) await stampLayer(this.#file(layer), layer.mtime);
    this.#deps.store.layers.setState(layer.id, 'ready');
  }
}

interface ClaimHandle {
  readonly claim: Claim;
  close(): void;
}

async function holdMerge(link: MachineLink, device: string): Promise<void> {
  try {
    await link.request({ type: 'hold-merge', device });
  } catch (error) {
    if (link.hasEnded) throw outOfDate('the machine has ended');
    await link.request({ type: 'finish-merge', device }).catch(() => undefined);
    throw error;
  }
}

class OutOfDate extends Error {}

function outOfDate(why: string): Error {
  return new OutOfDate(why);
}

/** The plan no longer fits: a machine has begun or ended, or a snapshot was taken. */
function isOutOfDate(error: unknown): boolean {
  return error instanceof OutOfDate || (error instanceof AppError && error.code === 'interrupted');
}
