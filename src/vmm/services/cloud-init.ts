/** What VMs' cloud-init is told: written down, on a seed disk for each start, and for the metadata service of their networks. */
import * as fs from 'node:fs';
import type { CloudInit } from '../../contracts/api/index.ts';
import type { DiskConfig } from '../../contracts/machine.ts';
import type { Store, VmRow } from '../../db/index.ts';
import { documentsOf, type Instance, seedOf } from '../cloud-init/documents.ts';
import { isoVolume } from '../cloud-init/iso9660.ts';
import type { Home } from '../home.ts';
import { addressesOf, prefixLengthOf } from './nic-row.ts';

/** By which cloud-init finds the disk. */
const SEED_LABEL = 'cidata';
/** As the switch's metadata service has it. */
const METADATA_URL = 'http://169.254.169.254/nocloud/';

export class CloudInits {
  readonly #store: Store;
  readonly #home: Home;

  constructor(store: Store, home: Home) {
    this.#store = store;
    this.#home = home;
  }

  get(vmId: string): CloudInit | undefined {
    const text = this.#store.cloudInit.get(vmId);
    return text === undefined ? undefined : parse(text);
  }

  views(vmIds: readonly string[]): Map<string, CloudInit> {
    return new Map([...this.#store.cloudInit.ofVms(vmIds)].map(([vmId, text]) => [vmId, parse(text)]));
  }

  /** In the running transaction. */
  set(vmId: string, settings: CloudInit | null): void {
    this.#store.cloudInit.set(vmId, settings === null ? null : JSON.stringify(settings));
  }

  /**
   * What the kernel's command line tells cloud-init beside `append`: where it finds the metadata service, when there is no seed
   * disk and nothing else is told.
   */
  kernelOptions(vmId: string, append: string): string {
    const settings = this.get(vmId);
    const isTold = /(^|\s)(ci\.)?ds=/.test(append);
    return settings === undefined || settings.seed_disk || isTold ? '' : `ds=nocloud-net;s=${METADATA_URL}`;
  }

  /** Writes the seed of a VM that starts; undefined when it is to have none. */
  seedDisk(vm: VmRow): DiskConfig | undefined {
    const settings = this.get(vm.id);
    const file = this.#home.file('vms', vm.id, 'seed.iso');
    if (settings?.seed_disk !== true) {
      fs.rmSync(file, { force: true });
      return undefined;
    }
    const files = Object.entries(seedOf(instanceOf(this.#store, vm), settings));
    const volume = isoVolume(
      SEED_LABEL,
      files.map(([name, content]) => ({ name, content: Buffer.from(content) })),
    );
    fs.writeFileSync(file, volume, { mode: 0o600 });
    return { device: SEED_LABEL, file, readOnly: true };
  }
}

/** What the metadata service tells a VM. */
export function metadataOf(store: Store, vm: Pick<VmRow, 'id' | 'name'>): Record<string, string> {
  const text = store.cloudInit.get(vm.id);
  return documentsOf(instanceOf(store, vm), text === undefined ? { seed_disk: false } : parse(text));
}

function instanceOf(store: Store, { id, name }: Pick<VmRow, 'id' | 'name'>): Instance {
  const cards = store.vms.nicsOf(id).map((nic) => ({
    device: nic.device,
    mac: nic.mac,
    addresses: addressesOf(store, nic),
    prefixLength: prefixLengthOf(store, nic),
  }));
  return { id, name, cards };
}

function parse(text: string): CloudInit {
  // INVARIANT: it was checked against the schema before it was written.
  return JSON.parse(text) as CloudInit;
}
