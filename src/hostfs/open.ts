/** Opens what a VM's configuration shares. */
import type { ShareConfig } from '../contracts/machine.ts';
import type { FileShare } from '../engine/backends.ts';
import { mayHang } from './mounts.ts';
import { openFolder } from './open-folder.ts';
import { ShareProcess } from './share-process.ts';

/**
 * A share of a folder, served within the thread, or, when calls of its file system may take forever, by a process of its own: then it
 * is open when `opened` resolves. AppErrors, at once or then: `not_found`, `forbidden`, `io_error`; `invalid_input` for owners that
 * the daemon cannot give files to; `unreachable` when it takes too long.
 */
export function openShare(config: ShareConfig): FileShare & { readonly opened?: Promise<void> } {
  return mayHang(config.folder) ? new ShareProcess(config) : openFolder(config, true);
}
