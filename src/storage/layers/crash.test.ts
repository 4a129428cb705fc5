/**
 * What a power cut leaves of a disk whose layers are frozen, merged, rolled back, put over another base and over none. A recorder stands for the
 * host's files: it keeps every write and every fdatasync of all of them in order. The sequence is cut after each, keeping of the
 * writes that no fdatasync of their file covers any sectors, and the layers are read again.
 */
import { describe, expect, it } from 'vitest';
import { randomNumbers } from '../../../test/support/storage.ts';
import { BlockError } from '../../engine/backends.ts';
import type { HostFile } from '../host-file.ts';
import { encodeCowHeader } from '../cow/header.ts';
import { CowVolume } from '../cow/volume.ts';
import { RawVolume } from '../raw-volume.ts';
import { dataRuns } from '../sparse.ts';
import { copyDown } from './copy-down.ts';
import { belowOf, LayeredVolume, type TopLayer } from './layered-volume.ts';
import { type FrozenLayer, LayerStack } from './layer-stack.ts';
import { RateLimit } from './rate-limit.ts';
import { copyDifferences, copyWhole } from './rebase.ts';
import type { LowerLayer } from './top-merge.ts';

const SECTOR = 512;
const SECTORS = 600;
const SIZE = SECTORS * SECTOR;
const { header: HEADER } = encodeCowHeader({ backingPath: '/b', backingMtime: 1, sizeBytes: SIZE });
/** The content of the base: no write ever has it. */
const BASE = 0xbb;
/** Where a file has nothing and its bitmap does not say so: must never be seen. */
const STALE = 0xdd;
/** What another base has where it does not have what the first has. */
const OTHER = 0xcc;

type Event =
  | { readonly kind: 'write'; readonly file: string; readonly sector: number; readonly bytes: Uint8Array }
  | { readonly kind: 'sync'; readonly file: string };

/** All files of a host. */
class Host {
  readonly events: Event[] = [];
  readonly files = new Map<string, Map<number, Uint8Array>>();
  /** Whether a write to a file finds the disk full. */
  isFull: (file: string) => boolean = () => false;

  open(name: string): HostFile {
    const sectors = this.files.get(name) ?? new Map<number, Uint8Array>();
    this.files.set(name, sectors);
    const read = (offset: number, into: readonly Uint8Array[]): void => {
      let at = offset;
      for (const piece of into) {
        for (let done = 0; done < piece.length; ) {
          const within = at % SECTOR;
          const length = Math.min(SECTOR - within, piece.length - done);
          const stored = sectors.get(Math.floor(at / SECTOR));
          const empty = at < HEADER.dataOffset || isFlat(name) ? 0 : STALE;
          if (stored === undefined) piece.fill(empty, done, done + length);
          else piece.set(stored.subarray(within, within + length), done);
          done += length;
          at += length;
        }
      }
    };
    const write = (offset: number, from: readonly Uint8Array[]): void => {
      if (this.isFull(name)) throw new BlockError('ENOSPC', 'no space left on device');
      const bytes = Buffer.concat(from);
      for (let at = 0; at < bytes.length; ) {
        const sector = Math.floor((offset + at) / SECTOR);
        const within = (offset + at) % SECTOR;
        const length = Math.min(SECTOR - within, bytes.length - at);
        const content = new Uint8Array(SECTOR);
        read(sector * SECTOR, [content]);
        content.set(bytes.subarray(at, at + length), within);
        sectors.set(sector, content);
        this.events.push({ kind: 'write', file: name, sector, bytes: content });
        at += length;
      }
    };
    return {
      read,
      write,
      sync: async () => {
        await new Promise(setImmediate);
        this.events.push({ kind: 'sync', file: name });
      },
      makeHole: (_how, offset, length) => {
        write(offset, [new Uint8Array(length)]);
        return 'done';
      },
      setSize: () => undefined,
      state: () => '',
      close: () => undefined,
    };
  }

  /** The files after a power cut behind `cut` events. */
  after(cut: number, keep: (event: Event) => boolean): Host {
    const host = new Host();
    const durable = new Map<string, number>();
    for (const [index, event] of this.events.slice(0, cut).entries()) {
      if (event.kind === 'sync') durable.set(event.file, index);
    }
    for (const [index, event] of this.events.slice(0, cut).entries()) {
      if (event.kind !== 'write' || (index > (durable.get(event.file) ?? -1) && !keep(event))) continue;
      const sectors = host.files.get(event.file) ?? new Map<number, Uint8Array>();
      host.files.set(event.file, sectors.set(event.sector, event.bytes));
    }
    return host;
  }
}

/** Files of flattened disks are made with their length, all hole. */
const isFlat = (name: string): boolean => name.startsWith('flat');

/** `base` and `other`, of which some sectors are alike. */
const baseFile = (name: string): HostFile => ({
  read(offset, into) {
    let at = offset;
    for (const piece of into) {
      piece.fill(BASE);
      for (let byte = 0; byte < piece.length && name === 'other'; byte++, at++) {
        if (Math.floor(at / SECTOR) % 7 < 4) piece[byte] = OTHER;
      }
    }
  },
  write() {
    throw new Error('the base was written to');
  },
  sync: () => Promise.resolve(),
  makeHole: () => 'unsupported',
  setSize: () => undefined,
  state: () => '',
  close: () => undefined,
});

const layersOf = (host: Host, [base = '', ...names]: readonly string[]): FrozenLayer[] => [
  { file: isFlat(base) ? host.open(base) : baseFile(base), placement: undefined },
  ...names.map((name) => ({ file: host.open(name), placement: HEADER })),
];

/** Of the files of a chain: a raw one and copy-on-write ones over it. */
const stackOf = (host: Host, chain: readonly string[]): LayerStack => new LayerStack(layersOf(host, chain));

function topOf(host: Host, name: string, below: { read: HostFile['read'] }): TopLayer {
  const file = host.open(name);
  const volume = new CowVolume(file, belowOf(below), HEADER);
  return { path: name, file, placement: HEADER, volume, seal: async () => host.open(name) };
}

function flatTop(host: Host, name: string): TopLayer {
  const file = host.open(name);
  const volume = new RawVolume(file, SIZE);
  return { path: name, file, placement: undefined, volume, seal: async () => host.open(name) };
}

interface Written {
  readonly value: number;
  readonly eventsBefore: number;
}

/** What somebody has been promised from an event on: that these layers over each other hold these values, or newer ones. */
interface Promised {
  readonly fromEvent: number;
  /** For each sector the index in `written` of the oldest value that may be seen. */
  readonly oldest: readonly number[];
  /** And of the newest, for a frozen layer; -1: the base. */
  readonly newest?: readonly number[];
  /** Which files, the raw one first; of the disk itself those of the moment. */
  readonly chain?: readonly string[];
}

interface Change {
  readonly fromEvent: number;
  readonly chain: readonly string[];
}

/** A guest on a disk whose layers change under it. */
class Story {
  readonly host = new Host();
  readonly written: Written[][] = Array.from({ length: SECTORS }, () => []);
  readonly promises: Promised[] = [];
  /** Which files the disk is made of, from which event on: as the database has it. */
  readonly chains: Change[] = [{ fromEvent: 0, chain: ['base', 'l0'] }];
  disk: LayeredVolume;
  readonly #random: (below: number) => number;
  #made = 1;
  #value = 0;

  constructor(seed: number) {
    this.#random = randomNumbers(seed);
    this.disk = this.#over(['base'], 'l0');
  }

  /** A new layer over files that nobody writes to. */
  #over(below: readonly string[], name: string): LayeredVolume {
    const stack = stackOf(this.host, below);
    return new LayeredVolume(topOf(this.host, name, stack), [], stack);
  }

  get chain(): readonly string[] {
    return this.chains.at(-1)!.chain;
  }

  write(): void {
    const random = this.#random;
    const first = [0, 6, 250, 590][random(4)]! + random(8);
    const count = Math.min(1 + random(12), SECTORS - first);
    this.#value = (this.#value + 1) % 180;
    const zeros = this.#value % 10 === 0;
    for (let sector = first; sector < first + count; sector++) {
      const value = zeros ? 0 : this.#value;
      this.written[sector]!.push({ value, eventsBefore: this.host.events.length });
    }
    if (zeros) void this.disk.writeZeroes(first * SECTOR, count * SECTOR, true);
    else void this.disk.write(first * SECTOR, [new Uint8Array(count * SECTOR).fill(this.#value)]);
  }

  writeSome(): void {
    for (let i = this.#random(4); i >= 0; i--) this.write();
  }

  /** Writes on while something goes on. */
  async during(work: Promise<unknown>): Promise<void> {
    let over = false;
    const done = work.finally(() => {
      over = true;
    });
    // Looked at when it is over.
    done.catch(() => undefined);
    while (!over) {
      if (this.#random(4) === 0) this.write();
      if (this.#random(6) === 0) this.#flushBeside();
      await new Promise(setImmediate);
    }
    await done;
  }

  #now(): number[] {
    return this.written.map((list) => list.length - 1);
  }

  /** Nobody waits for it; what it promises counts when it has finished. */
  #flushBeside(): void {
    const oldest = this.#now();
    const promised = (): void => {
      this.promises.push({ fromEvent: this.host.events.length, oldest });
    };
    // One that fails promises nothing.
    void Promise.resolve(this.disk.flush()).then(promised, () => undefined);
  }

  async flush(): Promise<void> {
    const oldest = this.#now();
    await this.during(Promise.resolve(this.disk.flush()));
    this.promises.push({ fromEvent: this.host.events.length, oldest });
  }

  /** The snapshot is promised when it is sealed. */
  async freeze(): Promise<void> {
    const name = `l${this.#made++}`;
    const frozen = this.chain;
    // The database is told before the machine does it.
    this.#chain([...frozen, name]);
    const newest = this.#now();
    this.disk.freeze(topOf(this.host, name, this.disk.below), 1);
    await this.during(this.disk.sealed());
    this.promises.push({ fromEvent: this.host.events.length, oldest: newest, newest, chain: frozen });
  }

  /** Of the top into the layer below, which stays the same file; nothing promised of that layer remains. */
  async mergeTop(): Promise<void> {
    const [lower, upper] = this.chain.slice(-2) as [string, string];
    if (!this.mayMerge(lower, upper)) return;
    this.#forget(lower);
    const openLower = (below: { read: HostFile['read'] } | undefined): LowerLayer => {
      const top = topOf(this.host, lower, below!);
      return { volume: top.volume, becomeTop: () => top, lock: () => undefined, abandon: () => undefined };
    };
    const options = { upper, openLower, onProgress: () => undefined, bytesPerSecond: undefined };
    await this.during(this.disk.mergeTop(options));
    await this.disk.holdForMerge();
    this.write();
    this.#chain([...this.chain.slice(0, -2), lower]);
    this.disk.finishMerge({ path: lower });
  }

  /** Of a frozen layer into the one below it. */
  async mergeFrozen(): Promise<void> {
    const chain = this.chain;
    const at = 2 + this.#random(chain.length - 3);
    const [lower, upper] = [chain[at - 1]!, chain[at]!];
    if (!this.mayMerge(lower, upper)) return;
    this.#forget(lower);
    const below = stackOf(this.host, chain.slice(0, at - 1));
    const source = new CowVolume(this.host.open(upper), belowOf(below), HEADER);
    const target = new CowVolume(this.host.open(lower), belowOf(below), HEADER);
    const merged = copyDown(source, target, { start: 0, end: SIZE }, { rate: new RateLimit(undefined) });
    await this.during(merged.then(() => target.flush()));
    const after = chain.filter((name) => name !== upper);
    this.#chain(after);
    // What was promised of chains with the upper one is the lower one's to keep.
    for (const [index, promised] of this.promises.entries()) {
      if (promised.chain?.includes(upper) !== true || this.#endings.has(index)) continue;
      const kept = promised.chain.filter((name) => name !== upper);
      this.#endings.set(index, this.host.events.length);
      this.promises.push({ ...promised, fromEvent: this.host.events.length, chain: kept });
    }
    await this.disk.relayer(layersOf(this.host, after.slice(0, -1)));
  }

  /** A layer that others are over too is not written to. */
  mayMerge(lower: string, upper: string): boolean {
    return this.promises.every(({ chain }, index) => {
      const at = chain?.indexOf(lower) ?? -1;
      return at < 0 || this.#endings.has(index) || [undefined, upper].includes(chain![at + 1]);
    });
  }

  /** Off, and then with the content of a snapshot, in a layer of its own over that. */
  async rollBack(): Promise<void> {
    const live = this.promises.filter(({ chain }, index) => chain !== undefined && !this.#endings.has(index));
    const to = live[this.#random(Math.max(live.length, 1))];
    if (to?.chain === undefined || to.newest === undefined) return;
    await this.flush();
    const name = `l${this.#made++}`;
    const { newest } = to;
    for (const [sector, values] of this.written.entries()) {
      if (values.length === 0) continue;
      const value = values[newest[sector]!]?.value ?? BASE;
      values.push({ value, eventsBefore: this.host.events.length });
    }
    this.#chain([...to.chain, name]);
    this.disk = this.#over(to.chain, name);
    this.promises.push({ fromEvent: this.host.events.length, oldest: this.#now() });
  }

  /** Off, and then over another base, with what differs from that; throws when the host's disk is full. */
  async rebase(): Promise<void> {
    await this.flush();
    const base = this.chain[0] === 'other' ? 'base' : 'other';
    const name = `l${this.#made++}`;
    const target = new CowVolume(this.host.open(name), belowOf(stackOf(this.host, [base])), HEADER);
    await copyDifferences(this.disk, target, {});
    await target.close();
    this.#chain([base, name]);
    this.disk = this.#over([base], name);
  }

  /** Off, and then in a file of its own. */
  async flatten(): Promise<void> {
    await this.flush();
    const name = `flat${this.#made++}`;
    const file = this.host.open(name);
    const write = async (at: number, piece: Uint8Array): Promise<void> => {
      for (const [from, to] of dataRuns(piece)) await file.write(at + from, [piece.subarray(from, to)], true);
    };
    await copyWhole(this.disk, write, {});
    await file.sync();
    this.#chain([name]);
    this.disk = new LayeredVolume(flatTop(this.host, name), []);
  }

  #chain(chain: readonly string[]): void {
    this.chains.push({ fromEvent: this.host.events.length, chain });
  }

  /** Promises end when a snapshot is deleted, and are made of other files when layers merge. */
  readonly #endings = new Map<number, number>();

  #forget(layer: string): void {
    for (const [index, promised] of this.promises.entries()) {
      if (promised.chain?.at(-1) === layer && !this.#endings.has(index)) {
        this.#endings.set(index, this.host.events.length);
      }
    }
  }

  async tell(rounds: number): Promise<void> {
    for (let round = 0; round < rounds; round++) {
      this.writeSome();
      const depth = this.chain.length - 1;
      const choice = this.#random(8);
      if (choice < 2) await this.freeze();
      else if (choice === 2 && depth > 1) await this.mergeTop();
      else if (choice === 3 && depth > 2) await this.mergeFrozen();
      else if (choice === 4) await this.rollBack();
      else if (choice === 5) await (this.#random(3) === 0 ? this.flatten() : this.rebase());
      else await this.flush();
    }
    await this.flush();
  }

  /** Throws when a host that was cut off behind `cut` events does not hold what was promised. */
  check(cut: number, host: Host): void {
    const { chain } = this.chains.findLast(({ fromEvent }) => fromEvent <= cut)!;
    const flushed = this.promises.findLast((one) => one.chain === undefined && one.fromEvent <= cut);
    this.#compare(cut, 'the disk', stackOf(host, chain), flushed?.oldest);
    for (const [index, { fromEvent, chain: frozen, oldest, newest }] of this.promises.entries()) {
      if (frozen === undefined || fromEvent > cut || (this.#endings.get(index) ?? cut + 1) <= cut) continue;
      this.#compare(cut, `the snapshot in ${frozen.at(-1)}`, stackOf(host, frozen), oldest, newest);
    }
  }

  #compare(
    cut: number,
    what: string,
    stack: LayerStack,
    oldest: readonly number[] | undefined,
    newest?: readonly number[],
  ): void {
    const content = new Uint8Array(SIZE);
    void stack.read(0, [content]);
    for (const [sector, values] of this.written.entries()) {
      if (values.length === 0) continue;
      const bytes = content.subarray(sector * SECTOR, (sector + 1) * SECTOR);
      const seen = bytes[0]!;
      if (!bytes.every((byte) => byte === seen))
        throw new Error(`cut at ${cut}: sector ${sector} of ${what} is torn`);
      const least = oldest?.[sector] ?? -1;
      const most = newest?.[sector] ?? values.length - 1;
      const allowed = values.filter((value, at) => at >= least && at <= most && value.eventsBefore <= cut);
      if (allowed.some(({ value }) => value === seen) || (least < 0 && seen === BASE)) continue;
      throw new Error(`cut at ${cut}: sector ${sector} of ${what} holds 0x${seen.toString(16)}`);
    }
  }
}

const isBitmap = (event: Event): boolean =>
  event.kind === 'write' && event.sector * SECTOR < HEADER.dataOffset;

/** So many cuts in all: at least 10 000. */
let cuts = 0;

describe('a power cut at any moment of snapshots, merges, rollbacks and rebases', () => {
  it.each(Array.from({ length: 18 }, (_, index) => index + 1))(
    'leaves every disk and every snapshot whole (story %d)',
    async (seed) => {
      const story = new Story(seed);
      await story.tell(16);
      const random = randomNumbers(seed + 100);
      const { events } = story.host;
      const keeps = [() => true, () => false, isBitmap, () => random(2) === 0, () => random(2) === 0];
      for (let cut = 0; cut <= events.length; cut++) {
        const last = events[cut - 1];
        // Behind a write that is not the last before an fdatasync a random half stands for all of them.
        const few = last?.kind === 'write' && events[cut]?.kind === 'write';
        for (const keep of few ? keeps.slice(-1) : keeps) {
          story.check(cut, story.host.after(cut, keep));
          cuts++;
        }
      }
      expect(events.length).toBeGreaterThan(300);
    },
    120_000,
  );

  it('was tried ten thousand times', () => {
    expect(cuts).toBeGreaterThan(10_000);
  });
});

describe('a host disk that is full', () => {
  /** A story up to the merge, with a write of the guest's in each layer. */
  async function begin(writes: number): Promise<Story> {
    const story = new Story(3);
    for (let round = 0; round < 4; round++) {
      for (let i = 0; i < 6; i++) story.write();
      await story.freeze();
    }
    for (let i = 0; i < writes; i++) story.write();
    await story.flush();
    return story;
  }

  it('at any write of a merge leaves the disk as it was, and the merge can be done later', async () => {
    let failures = 0;
    for (let writes = 0; ; writes++) {
      const story = await begin(60);
      const [lower] = story.chain.slice(-2);
      let left = writes;
      // When it is the top the guest's own writes go there.
      story.host.isFull = (file) => file === lower && story.chain.at(-1) !== lower && left-- <= 0;
      const merged = await story.mergeTop().then(
        () => true,
        (error: unknown) => {
          expect(error).toMatchObject({ code: 'ENOSPC' });
          return false;
        },
      );
      story.host.isFull = () => false;
      if (!merged) {
        failures++;
        await story.flush();
        story.check(
          story.host.events.length,
          story.host.after(story.host.events.length, () => true),
        );
        await story.mergeTop();
      }
      await story.flush();
      story.check(
        story.host.events.length,
        story.host.after(story.host.events.length, () => false),
      );
      if (merged) break;
    }
    expect(failures).toBeGreaterThan(5);
  });

  it.each(['rebase', 'flatten'] as const)(
    'at any write of a %s leaves the disk as it was, and it can be done later',
    async (how) => {
      let failures = 0;
      for (let writes = 0; ; writes++) {
        const story = await begin(40);
        const known = new Set(story.host.files.keys());
        let left = writes;
        story.host.isFull = (file) => !known.has(file) && left-- <= 0;
        const done = await story[how]().then(
          () => true,
          (error: unknown) => {
            expect(error).toMatchObject({ code: 'ENOSPC' });
            return false;
          },
        );
        story.host.isFull = () => false;
        story.write();
        if (!done) {
          failures++;
          await story[how]();
        }
        await story.flush();
        story.check(
          story.host.events.length,
          story.host.after(story.host.events.length, () => false),
        );
        if (done) break;
      }
      expect(failures).toBeGreaterThan(how === 'rebase' ? 20 : 1);
    },
    120_000,
  );

  it('when what was frozen is made durable is told to every flush, until there is room again', async () => {
    const story = await begin(12);
    const top = story.chain.at(-1)!;
    story.write();
    story.host.isFull = (file) => file === top;
    await expect(story.freeze()).rejects.toMatchObject({ code: 'ENOSPC' });
    await expect(Promise.resolve(story.disk.flush())).rejects.toMatchObject({ code: 'ENOSPC' });
    story.host.isFull = () => false;
    await story.flush();
    story.check(
      story.host.events.length,
      story.host.after(story.host.events.length, () => false),
    );
  });
});
