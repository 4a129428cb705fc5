/** Work on disks that takes its time, while no machine has them. */
import type { Operation } from '../../contracts/api/index.ts';
import { shrinkDisk } from '../../storage/index.ts';
import type { Principal } from '../access.ts';
import type { EventLog } from '../events.ts';
import { bytesOf, type Operations } from '../operations.ts';
import type { Disks } from './disks.ts';
import type { Supervisor } from './supervisor.ts';

export interface DiskWorkDeps {
  readonly events: EventLog;
  readonly operations: Operations;
  readonly disks: Disks;
  readonly supervisor: Supervisor;
}

export class DiskWork {
  readonly #deps: DiskWorkDeps;

  constructor(deps: DiskWorkDeps) {
    this.#deps = deps;
  }

  /** Gives unused space back to the host. `conflict` while a machine has the disk; the guest can run fstrim then. */
  shrink(who: Principal, ref: string): Operation {
    const { disks, operations, events, supervisor } = this.#deps;
    const disk = disks.find(who, ref);
    supervisor.requireNoMachine(disk, 'run fstrim in the guest, or halt the VM first');
    const resource = { type: 'disk', id: disk.id } as const;
    return operations.run(
      { kind: 'disk.shrink', tenant: disk.tenant, resources: [resource], mayCancel: true },
      async (signal, progress) => {
        const { beforeBytes, afterBytes } = await shrinkDisk(disks.config(disk), {
          signal,
          onProgress: bytesOf(progress),
        });
        events.append({
          type: 'disk.updated',
          tenant: disk.tenant,
          resource,
          data: { name: disk.name, allocated_bytes: afterBytes, freed_bytes: beforeBytes - afterBytes },
        });
      },
    );
  }
}
