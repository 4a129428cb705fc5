/** Disks that are made larger, also under a guest. */
import type { Disk } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { DiskRow, Store } from '../../db/index.ts';
import { openDisk } from '../../storage/index.ts';
import type { Principal } from '../access.ts';
import type { EventLog } from '../events.ts';
import type { Disks } from './disks.ts';
import type { Supervisor } from './supervisor.ts';

export interface DiskResizeDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly disks: Disks;
  readonly supervisor: Supervisor;
}

export class DiskResizes {
  readonly #deps: DiskResizeDeps;

  constructor(deps: DiskResizeDeps) {
    this.#deps = deps;
  }

  /**
   * The file first, then the guest, the database last: what was cut off is done by the same call again. AppErrors: `unsupported`
   * for copy-on-write disks and the operator's files, `invalid_input` for a smaller size, `in_use`, `locked`, `disk_full`, `io_error`.
   */
  async resize(who: Principal, ref: string, sizeBytes: number): Promise<Disk> {
    const { disks, supervisor } = this.#deps;
    const { id, vm_id } = disks.find(who, ref);
    const resize = async (): Promise<void> => {
      const disk = disks.find(who, id);
      requireResizable(disk);
      const { device } = disk;
      const instance = vm_id === null || disk.vm_id !== vm_id ? undefined : supervisor.get(vm_id);
      if (instance?.hasMachine === true && device !== null) {
        await instance.machine().request({ type: 'grow-disk', device, sizeBytes });
      } else {
        await this.#growFile(disk, sizeBytes);
      }
      this.#record(disk, sizeBytes);
    };
    await (vm_id === null ? resize() : supervisor.get(vm_id).exclusive(resize));
    return disks.get(who, id);
  }

  async #growFile(disk: DiskRow, sizeBytes: number): Promise<void> {
    const opened = openDisk({ ...this.#deps.disks.config(disk), readOnly: false });
    try {
      await opened.grow(sizeBytes);
    } finally {
      await opened.close();
    }
  }

  #record(disk: DiskRow, sizeBytes: number): void {
    const { store, events } = this.#deps;
    store.transaction(() => {
      store.layers.setSize(disk.layer_id, sizeBytes);
      events.append({
        type: 'disk.updated',
        tenant: disk.tenant,
        resource: { type: 'disk', id: disk.id },
        data: { name: disk.name, size_bytes: sizeBytes },
      });
    });
  }
}

/** Only a raw file of ours has a size of its own. */
function requireResizable(disk: DiskRow): void {
  if (disk.layer_kind === 'external') {
    throw new AppError('unsupported', "the disk is a file of the operator's own", {
      field: 'disk',
      remedy: 'make the file larger with truncate while no VM has it',
    });
  }
  if (disk.layer_kind === 'cow') {
    throw new AppError('unsupported', 'a copy-on-write disk has the size of what it is over', {
      field: 'disk',
      remedy: `make it a disk of its own with \`umlaut disk flatten ${disk.name}\` (or \`umlaut disk resize --flatten\`) while its VM is halted, or, when it is only over snapshots, delete these`,
    });
  }
}
