/** A VM of the daemon's as the verbs see it. */
import { AppError } from '../contracts/errors.ts';
import { DiskCreate, ShareCreate } from '../contracts/api/index.ts';
import {
  FIRST_SERIAL,
  type Instance,
  type LineName,
  lineText,
  type Principal,
  type Services,
} from '../vmm/index.ts';
import { isEthTransport, parseEth, type TransportCard } from '../uml/eth.ts';
import { HOSTFS_TAG } from '../uml/hostfs.ts';
import type { Target, WantedDisk } from './target.ts';

export class DaemonTarget implements Target {
  readonly instance: Instance;
  readonly #services: Services;
  readonly #who: Principal;
  readonly #vmId: string;

  /** Throws AppError `not_found`. */
  constructor(services: Services, who: Principal, vmRef: string) {
    this.#services = services;
    this.#who = who;
    this.#vmId = services.vms.find(who, vmRef).id;
    this.instance = services.supervisor.get(this.#vmId);
  }

  /** The release is the kernel file's own. */
  version(): string {
    const { vms, images } = this.#services;
    const vm = vms.find(this.#who, this.#vmId);
    const { kernel_release, kernel_version } = images.find(vm.image_id);
    const parts = ['Linux', vm.name, kernel_release ?? 'unknown', kernel_version ?? '', 'x86_64'];
    return parts.filter((part) => part !== '').join(' ');
  }

  /**
   * From outside a guest nothing can be written into its kernel's log: the text goes onto the stream of events (`vm.log`), and
   * to the viewers and the scrollback of the first serial console, where UML's kernel would print it.
   */
  log(text: string): void {
    const { vms, events } = this.#services;
    const { tenant } = vms.find(this.#who, this.#vmId);
    const resource = { type: 'vm', id: this.#vmId } as const;
    events.append({ type: 'vm.log', tenant, resource, data: { text } });
    const printed = new TextEncoder().encode(text.replaceAll(/\r?\n/g, '\r\n'));
    this.instance.consoles.print(FIRST_SERIAL, printed);
  }

  async disk(unit: number): Promise<string | undefined> {
    const { vms, images } = this.#services;
    const { disks } = await vms.get(this.#who, this.#vmId);
    const disk = disks.find(({ device }) => device === `ubd${unit}`);
    if (disk === undefined) return undefined;
    const { id, path, name, image_id } = disk;
    if (path !== null) {
      const { parent_path } = this.#services.disks.find(this.#who, id);
      return parent_path === null ? path : `${path},${parent_path}`;
    }
    return image_id === null ? name : `${name},${images.get(image_id).name ?? image_id}`;
  }

  async addDisk(wanted: WantedDisk): Promise<void> {
    const { unit, file, backing } = wanted;
    if (wanted.unlocked)
      throw foregroundOnly("disks of the daemon's are one machine's at a time, without the flag c");
    if (wanted.serial !== undefined)
      throw foregroundOnly("disks of the daemon's have their device name as serial number");
    const { devices } = this.#services;
    const device = `ubd${unit}`;
    const flags = `${wanted.synchronous ? 's' : ''}${wanted.noDiscard ? 't' : ''}`;
    if (file.startsWith('/')) {
      await devices.attachFile(this.#who, this.#vmId, device, wanted, flags);
      return;
    }
    if (backing !== undefined) await this.#makeOverImage(file, backing);
    const body = { disk: file, device, ...(wanted.readOnly ? { read_only: true } : {}) };
    await devices.attachDisk(this.#who, this.#vmId, body, flags);
  }

  async removeDisk(unit: number): Promise<void> {
    await this.#services.devices.detachDisk(this.#who, this.#vmId, `ubd${unit}`);
  }

  async hasNic(unit: number): Promise<boolean> {
    const { nics } = await this.#services.vms.get(this.#who, this.#vmId);
    return nics.some(({ device }) => device === `eth${unit}`);
  }

  /** `NETWORK[,MAC]`, or a transport in UML's words where no network has that name. */
  async addNic(unit: number, value: string): Promise<void> {
    const { devices } = this.#services;
    const device = `eth${unit}`;
    const [network = '', mac] = value.split(',', 2);
    if (isEthTransport(network) && !this.#hasNetwork(network)) {
      const { eth } = parseEth(`${device}=${value}`, String(unit), value);
      await this.addTransportNic(unit, eth);
      return;
    }
    await devices.attachNic(this.#who, this.#vmId, { device, network, mac });
  }

  async addTransportNic(unit: number, { transport, mac }: TransportCard): Promise<void> {
    await this.#services.devices.attachNic(this.#who, this.#vmId, { device: `eth${unit}`, transport, mac });
  }

  #hasNetwork(name: string): boolean {
    try {
      this.#services.networks.find(this.#who, name);
      return true;
    } catch (error) {
      if (error instanceof AppError && error.code === 'not_found') return false;
      throw error;
    }
  }

  async addHostfs(root: string, append: boolean): Promise<void> {
    if (append) throw foregroundOnly("shares of the daemon's have no setting append", 'hostfs');
    const share = ShareCreate.parse({ tag: HOSTFS_TAG, path: root });
    await this.#services.devices.addShare(this.#who, this.#vmId, share);
  }

  async removeHostfs(): Promise<void> {
    await this.#services.devices.removeShare(this.#who, this.#vmId, HOSTFS_TAG);
  }

  async removeNic(unit: number): Promise<void> {
    await this.#services.devices.detachNic(this.#who, this.#vmId, `eth${unit}`);
  }

  /** Serial lines are always there, if joined to nothing; consoles when they are configured. */
  line(name: LineName): string | undefined {
    const channel = this.#services.consoles.channel(this.#who, this.#vmId, lineText(name));
    return channel ?? (name.driver === 'ssl' || name.number === 0 ? 'null' : undefined);
  }

  async setLine(name: LineName, value: string): Promise<void> {
    await this.#services.consoles.set(this.#who, this.#vmId, lineText(name), value);
  }

  async setHppfs(folder: string | undefined): Promise<void> {
    const { procFiles, vms } = this.#services;
    const files = folder === undefined ? [] : await procFiles.ofFolder(this.#who, folder);
    await vms.update(this.#who, this.#vmId, { proc_files: files });
  }

  memoryBytes(): number {
    return this.#services.vms.find(this.#who, this.#vmId).memory_bytes;
  }

  async changeMemory(bytes: number): Promise<void> {
    await this.#services.vms.update(this.#who, this.#vmId, { memory_bytes: this.memoryBytes() + bytes });
  }

  /** `cow,backing`: as UML makes a COW file that is missing, so a disk of that name is made over the image. */
  async #makeOverImage(name: string, imageRef: string): Promise<void> {
    const { images, disks } = this.#services;
    const image = images.find(imageRef);
    try {
      const disk = disks.find(this.#who, name);
      if (disk.image_id === image.id) return;
      throw new AppError('conflict', `disk ${name} is not over image ${imageRef}`);
    } catch (error) {
      if (!(error instanceof AppError && error.code === 'not_found')) throw error;
    }
    await disks.create(this.#who, DiskCreate.parse({ name, image: image.id }));
  }
}

function foregroundOnly(text: string, field = 'device'): AppError {
  return new AppError('unsupported', text, {
    field,
    remedy: 'leave it out; `umlaut linux` has it',
  });
}
