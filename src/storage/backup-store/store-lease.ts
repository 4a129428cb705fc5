/**
 * A remote with a store belongs to one daemon at a time: another would take packs for garbage that a backup of this one is just going on
 * from. A remote has no locks. So each daemon writes an object of its own, looks whether there are others, and takes its own away
 * again if there are: of two that come at the same moment at least one sees the other. The object is renewed; one that has
 * not been for a while is of a daemon that was killed.
 */
import { hostname } from 'node:os';
import { AppError } from '../../contracts/errors.ts';
import type { ObjectStore } from './objects.ts';

/** By the clocks of the daemons' hosts, which may differ by minutes. */
const STALE_MS = 30 * 60_000;
const RENEW_MS = 5 * 60_000;
const LEASE_BYTES_MAX = 4096;

/** What other daemons read, as JSON. */
interface Lease {
  readonly host: string;
  readonly pid: number;
  /** Unix milliseconds. */
  readonly renewedAt: number;
}

export interface LeaseOptions {
  /** It could not be renewed for so long that another daemon may have taken the store. */
  readonly onLost: () => void;
  readonly renewMs?: number;
}

/**
 * Takes the store for `holder`, a name without separators that is this daemon's alone and stays so over its restarts; the
 * result lets go of it. AppErrors: `in_use`, and those of the destination.
 */
export async function holdRemoteStore(
  objects: ObjectStore,
  holder: string,
  { onLost, renewMs = RENEW_MS }: LeaseOptions,
): Promise<() => Promise<void>> {
  const own = `${holder}.json`;
  let renewedAt = Date.now();
  const renew = async (): Promise<void> => {
    const now = Date.now();
    const lease: Lease = { host: hostname(), pid: process.pid, renewedAt: now };
    await objects.put(`leases/${own}`, Buffer.from(JSON.stringify(lease)));
    renewedAt = now;
  };
  await renew();
  try {
    await refuseOthers(objects, own);
  } catch (error) {
    await objects.remove(`leases/${own}`);
    throw error;
  }
  let renewing: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    renewing = renew().catch(() => {
      if (Date.now() - renewedAt <= STALE_MS / 2) return;
      clearInterval(timer);
      onLost();
    });
  }, renewMs).unref();
  return async () => {
    clearInterval(timer);
    await renewing;
    await objects.remove(`leases/${own}`);
  };
}

async function refuseOthers(objects: ObjectStore, own: string): Promise<void> {
  for (const { name } of await objects.list('leases')) {
    if (name === own) continue;
    const lease = await readLease(objects, name);
    if (lease !== undefined && Date.now() - lease.renewedAt > STALE_MS) {
      await objects.remove(`leases/${name}`);
      continue;
    }
    const who = lease === undefined ? 'another daemon' : `the daemon ${lease.pid} of ${lease.host}`;
    throw new AppError('in_use', `${who} keeps backups there`, {
      field: 'destination',
      remedy: `give each daemon a path of its own; if that one is gone for good, wait half an hour or remove leases/${name}`,
    });
  }
}

/** Undefined when it is none that could be read; it may be of another version. */
async function readLease(objects: ObjectStore, name: string): Promise<Lease | undefined> {
  try {
    const text = (await objects.get(`leases/${name}`, LEASE_BYTES_MAX)).toString();
    const { host, pid, renewedAt } = (JSON.parse(text) ?? {}) as Partial<Lease>;
    const valid = typeof host === 'string' && typeof pid === 'number' && typeof renewedAt === 'number';
    return valid ? { host: host.slice(0, 100), pid, renewedAt } : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    if (!(error instanceof AppError) || error.code !== 'not_found') throw error;
    // It has just been given back: as good as stale.
    return { host: '', pid: 0, renewedAt: 0 };
  }
}
