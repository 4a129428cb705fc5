/** What a clone or a restored VM has of the VM that it is made after, beside disks and network cards. */
import { z } from 'zod';
import { CloudInit, JitCodeBytes, ShareCreate, SHARES_MAX } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Store } from '../../db/index.ts';
import { isRemote } from '../remote-folders.ts';
import { shareRow, shareView } from './shares.ts';

/** Also in the manifests of backups, whose stores may be somebody else's. */
const SavedSettings = z.object({
  shares: z.array(ShareCreate).max(SHARES_MAX).default([]),
  cloud_init: CloudInit.nullable().default(null),
  jit_code_bytes: JitCodeBytes.default(null),
});
export type SavedSettings = z.input<typeof SavedSettings>;

export function savedSettings(store: Store, vmId: string): SavedSettings {
  const shares = store.shares.ofVms([vmId]).map(shareView);
  const cloudInit = store.cloudInit.get(vmId);
  return {
    shares,
    // INVARIANT: CloudInits writes it.
    cloud_init: cloudInit === undefined ? null : (JSON.parse(cloudInit) as CloudInit),
    jit_code_bytes: store.vms.get(vmId)?.jit_code_bytes ?? null,
  };
}

/**
 * Writes them down for a VM, in the running transaction. Folders are not looked at: a start says which of them is no longer
 * allowed. Those of other hosts are left out: they are the operator's to give. `backup_corrupt` when they are none.
 */
export function giveSettings(store: Store, vmId: string, saved: SavedSettings | undefined): void {
  const parsed = SavedSettings.safeParse(saved ?? {});
  if (!parsed.success) {
    throw new AppError('backup_corrupt', `the settings of the VM cannot be read: ${parsed.error.message}`);
  }
  const shares = parsed.data.shares.filter(({ path }) => !isRemote(path));
  const tags = new Map(shares.map((share) => [share.tag, share]));
  for (const share of tags.values()) store.shares.insert(shareRow(vmId, share));
  const { cloud_init, jit_code_bytes } = parsed.data;
  store.vms.setJitCode(vmId, jit_code_bytes);
  if (cloud_init !== null) store.cloudInit.set(vmId, JSON.stringify(cloud_init));
}
