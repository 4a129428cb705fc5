/**
 * A remote with a store belongs to one daemon at a time: another would take packs for garbage that a backup of this one is just going on
 * from. A remote has no locks. So each daemon writes an object of its own, looks whether there are others, and takes its own away
 * again if there are: of two that come at the same moment at least one sees the other. The object is renewed; one that has
 * not been for a while, or whose process on this machine has ended, is of a daemon that was killed.
 *
 * Whoever takes a store over removes the object that was there. So it is this daemon's, without a gap, as long as the object that it
 * wrote is there and fresh. That is looked at on both sides of every manifest, and while garbage is removed.
 */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import type { LeaseClaim } from '../../contracts/backup.ts';
import { AppError } from '../../contracts/errors.ts';
import { hasEnded, type LeaseHolder, ownProcess } from './lease-holder.ts';
import type { ObjectStore } from './objects.ts';

/** By the clocks of the daemons' hosts, which may differ by minutes. */
const STALE_MS = 30 * 60_000;
/** An object that was not renewed for so long is no longer trusted by the daemon that wrote it. */
const TRUST_MS = STALE_MS / 2;
const RENEW_MS = 5 * 60_000;
/** What was seen so lately is not looked at again before each pack is removed. */
const LATELY_MS = 60_000;
const LEASE_BYTES_MAX = 4096;

/** What daemons read, as JSON. Earlier versions have only the first two and the last. */
const Lease = z.object({
  host: z.string().max(255),
  pid: z.int().positive(),
  boot: z.string().default(''),
  namespaces: z.string().default(''),
  started: z.string().default(''),
  token: z.string().default(''),
  /** Unix milliseconds. */
  renewedAt: z.number(),
});
type Lease = LeaseHolder & Pick<LeaseClaim, 'token'> & { readonly renewedAt: number };

/** One taking of a store, as every thread of the daemon can look at it. */
export class StoreLease {
  readonly #objects: ObjectStore;
  readonly #claim: LeaseClaim;
  #confirmedAt = Number.NEGATIVE_INFINITY;

  constructor(objects: ObjectStore, claim: LeaseClaim) {
    this.#objects = objects;
    this.#claim = claim;
  }

  /** Nobody else has had the store since it was taken. Rejects with `interrupted` when that is not certain, and as `get` does. */
  async confirm(): Promise<void> {
    await this.#confirmed();
  }

  /** As `confirm`; what was seen in the last minute is still believed. */
  async confirmLately(): Promise<void> {
    if (Math.abs(Date.now() - this.#confirmedAt) > LATELY_MS) await this.#confirmed();
  }

  /** As `confirm`. */
  async renew(): Promise<void> {
    const { renewedAt } = await this.#confirmed();
    await this.write();
    // It may have been under way for so long that somebody else took it for stale.
    if (Date.now() - renewedAt > TRUST_MS) throw lost();
  }

  async write(): Promise<void> {
    const lease: Lease = { ...ownProcess(), token: this.#claim.token, renewedAt: Date.now() };
    await this.#objects.put(`leases/${this.#claim.name}`, Buffer.from(JSON.stringify(lease)));
  }

  /** Unless it is somebody else's by now. */
  async remove(): Promise<void> {
    const lease = await readLease(this.#objects, this.#claim.name);
    if (isLease(lease) && lease.token === this.#claim.token) {
      await this.#objects.remove(`leases/${this.#claim.name}`);
    }
  }

  async #confirmed(): Promise<Lease> {
    const lease = await readLease(this.#objects, this.#claim.name);
    const now = Date.now();
    const own = isLease(lease) && lease.token === this.#claim.token;
    if (!own || now - lease.renewedAt > TRUST_MS) throw lost();
    this.#confirmedAt = now;
    return lease;
  }
}

export interface HoldOptions {
  /** It could not be renewed for so long that another daemon may have taken the store, or one has. */
  readonly onLost: () => void;
  /** Takes it from whoever has it. */
  readonly takeOver?: boolean | undefined;
  readonly renewMs?: number;
}

export interface HeldStore {
  readonly claim: LeaseClaim;
  /** As `StoreLease.confirm`. */
  confirm(): Promise<void>;
  /** Lets go of the store. */
  release(): Promise<void>;
  /** Renews it no more. What is there stays, until it is replaced or stale. */
  abandon(): void;
}

/**
 * Takes the store for `holder`, a name without separators that is this daemon's alone and stays so over its restarts.
 * AppErrors: `in_use`, and those of the destination.
 */
export async function holdRemoteStore(
  objects: ObjectStore,
  holder: string,
  { onLost, takeOver = false, renewMs = RENEW_MS }: HoldOptions,
): Promise<HeldStore> {
  const claim = { name: `${holder}.json`, token: randomUUID() };
  const lease = new StoreLease(objects, claim);
  await lease.write();
  let renewedAt = Date.now();
  try {
    await settleOthers(objects, claim.name, takeOver);
    // Of two that take it from each other neither has it.
    await lease.confirm();
  } catch (error) {
    await lease.remove().catch(() => undefined);
    throw error;
  }
  let renewing: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    renewing = lease
      .renew()
      .then(() => {
        renewedAt = Date.now();
      })
      .catch((error: unknown) => {
        if (!isLost(error) && Date.now() - renewedAt <= TRUST_MS) return;
        clearInterval(timer);
        onLost();
      });
  }, renewMs).unref();
  return {
    claim,
    confirm: () => lease.confirm(),
    abandon: () => clearInterval(timer),
    async release() {
      clearInterval(timer);
      await renewing;
      await lease.remove();
    },
  };
}

/** Whether a store was lost to another daemon, perhaps. Opened anew, it may be had again. */
export function isLost(error: unknown): boolean {
  return error instanceof AppError && error.code === 'interrupted';
}

function lost(): AppError {
  return new AppError(
    'interrupted',
    'the destination was out of reach for so long that another daemon may have used it, or one has taken it over',
    {
      field: 'destination',
      remedy: 'try again: what has been stored is found there, if nobody has removed it',
    },
  );
}

/** Removes what killed daemons have left. `in_use` when there is another one, unless it is taken over. */
async function settleOthers(objects: ObjectStore, own: string, takeOver: boolean): Promise<void> {
  for (const { name } of await objects.list('leases')) {
    if (name === own) continue;
    const lease = await readLease(objects, name);
    if (lease === 'none') continue;
    if (!takeOver && mayRun(lease)) throw inUse(name, lease);
    await objects.remove(`leases/${name}`);
  }
}

function mayRun(lease: Lease | 'unreadable'): boolean {
  return lease === 'unreadable' || (Date.now() - lease.renewedAt <= STALE_MS && !hasEnded(lease));
}

function inUse(name: string, lease: Lease | 'unreadable'): AppError {
  const who = isLease(lease) ? `the daemon with pid ${lease.pid} on ${lease.host}` : 'another daemon';
  const until = isLease(lease)
    ? `is taken to be so at ${new Date(lease.renewedAt + STALE_MS).toISOString()}`
    : `has left leases/${name} there, which can be removed`;
  return new AppError('in_use', `${who} keeps backups there`, {
    field: 'destination',
    remedy:
      `give each daemon a path of its own; one that is gone for good ${until}, ` +
      'or at once by take_over (`umlaut backup destination add --take-over`, or `take-over` of one that is known), which destroys ' +
      'backups if it still runs',
  });
}

function isLease(lease: Lease | 'none' | 'unreadable'): lease is Lease {
  return typeof lease === 'object';
}

/** unreadable: it may be of a later version. */
async function readLease(objects: ObjectStore, name: string): Promise<Lease | 'none' | 'unreadable'> {
  try {
    const text = (await objects.get(`leases/${name}`, LEASE_BYTES_MAX)).toString();
    return Lease.safeParse(JSON.parse(text)).data ?? 'unreadable';
  } catch (error) {
    if (error instanceof SyntaxError) return 'unreadable';
    if (error instanceof AppError && error.code === 'not_found') return 'none';
    throw error;
  }
}
