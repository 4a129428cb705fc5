/** Gives each running VM its UMID/pid and UMID/mconsole in the UML folder, and takes them away when it ends. */
import * as path from 'node:path';
import { AppError, toAppError } from '../../contracts/errors.ts';
import { type Log, type LoggedEvent, type Services, SYSTEM } from '../../vmm/index.ts';
import { SerialQueue } from '../../vmm/serial-queue.ts';
import { runCommand } from '../index.ts';
import { encodeNotification, NOTIFY, type NotifyType, notifyText } from '../wire/notify.ts';
import { SOCKET_PATH_MAX } from './datagram-socket.ts';
import { type SocketAnswer, type SocketHandle, SocketServer } from './socket-server.ts';
import { claimUmid, isUmid, releaseUmid, type UmidFolder } from './umid-folder.ts';

export interface VmSocketsOptions {
  readonly services: Services;
  /** Made when missing. */
  readonly umlDir: string;
  /** A socket that is told of consoles that come up, panics and what guests say, as by UML's `mconsole=notify:PATH`. */
  readonly notifyPath?: string | undefined;
  readonly log: Log;
}

interface Served {
  readonly folder: UmidFolder;
  /** As UML, one command at a time. */
  readonly queue: SerialQueue;
  /** Cleared when the VM ends: a socket that is still coming up then goes as soon as it is there. */
  wanted: boolean;
  /** Once it is open. */
  handle: SocketHandle | undefined;
}

export class VmSockets {
  readonly #services: Services;
  readonly #umlDir: string;
  readonly #log: Log;
  readonly #notifyPath: string | undefined;
  readonly #server: SocketServer;
  readonly #served = new Map<string, Served>();
  /** Sockets that are coming up or going down. */
  readonly #settling = new Set<Promise<void>>();
  readonly #unsubscribe: () => void;

  /** Throws AppError `invalid_input` for a path that no socket can have. */
  constructor({ services, umlDir, notifyPath, log }: VmSocketsOptions) {
    if (notifyPath !== undefined) checkSocketPath(notifyPath);
    this.#notifyPath = notifyPath === undefined ? undefined : path.resolve(notifyPath);
    this.#services = services;
    this.#umlDir = path.resolve(umlDir);
    this.#log = log;
    this.#server = new SocketServer((error) =>
      log.error({ err: error }, 'the management consoles have failed'),
    );
    this.#unsubscribe = services.events.subscribe((logged) => this.#take(logged));
  }

  /** To be called when no VM runs any more: what was asked is still answered. */
  async close(): Promise<void> {
    this.#unsubscribe();
    for (const vmId of [...this.#served.keys()]) this.#shut(vmId);
    // What was still coming up is taken down once it is there.
    while (this.#settling.size > 0) await Promise.all(this.#settling);
    await this.#server.close();
  }

  #take({ event: { type, resource, data } }: LoggedEvent): void {
    if (resource === null) return;
    if (type === 'vm.panicked')
      this.#notify(resource.id, NOTIFY.PANIC, notifyText(String(data.message ?? '')));
    if (type === 'vm.hung') this.#notify(resource.id, NOTIFY.HANG, new Uint8Array(0));
    if (type === 'vm.notification') this.#notify(resource.id, NOTIFY.USER, notifiedBytes(data));
    if (type !== 'vm.state') return;
    if (data.state === 'running') this.#serve(resource.id);
    else if (data.state === 'halted' || data.state === 'failed') this.#shut(resource.id);
  }

  /** A VM without its socket runs all the same: what goes wrong is logged. */
  #serve(vmId: string): void {
    const present = this.#served.get(vmId);
    if (present !== undefined) {
      present.wanted = true;
      return;
    }
    try {
      const folder = this.#claim(vmId);
      const served: Served = { folder, queue: new SerialQueue(), wanted: true, handle: undefined };
      this.#served.set(vmId, served);
      this.#track(this.#open(vmId, served));
    } catch (error) {
      this.#failed(vmId, error);
    }
  }

  /** The VM's name; its id where the name is in use. */
  #claim(vmId: string): UmidFolder {
    const { name } = this.#services.vms.find(SYSTEM, vmId);
    const umids = new Set([...this.#served.values()].map(({ folder }) => folder.umid));
    for (const umid of [name, vmId].filter(isUmid)) {
      const folder = claimUmid(this.#umlDir, umid, (wanted) => umids.has(wanted));
      if (folder !== undefined) return folder;
      this.#log.warn({ vm: vmId, umid }, 'the umid is already in use');
    }
    throw new AppError('in_use', `neither the VM's name nor its id is free in ${this.#umlDir}`, {
      remedy: 'remove the folder that is in the way, or use another UML folder',
    });
  }

  async #open(vmId: string, served: Served): Promise<void> {
    const { socket } = served.folder;
    try {
      served.handle = await this.#server.open(socket, (text) =>
        served.queue.run(() => this.#answer(vmId, text)),
      );
      this.#log.info({ vm: vmId }, `mconsole (version 2) initialized on ${socket}`);
      this.#notify(vmId, NOTIFY.SOCKET, notifyText(socket));
    } catch (error) {
      this.#failed(vmId, error);
      served.wanted = false;
    }
    if (!served.wanted) this.#remove(vmId, served);
  }

  async #answer(vmId: string, text: string): Promise<SocketAnswer> {
    try {
      const { err, text: reply } = await runCommand(this.#services, SYSTEM, vmId, text);
      return { err, text: reply };
    } catch (error) {
      const { message, remedy } = toAppError(error);
      return { err: 1, text: remedy === undefined ? message : `${message}: ${remedy}` };
    }
  }

  #shut(vmId: string): void {
    const served = this.#served.get(vmId);
    if (served === undefined) return;
    served.wanted = false;
    // While it comes up it makes files in the folder, on a thread of its own: what opens it removes it then.
    if (served.handle !== undefined) this.#remove(vmId, served);
  }

  #remove(vmId: string, served: Served): void {
    this.#served.delete(vmId);
    try {
      releaseUmid(served.folder);
    } catch (error) {
      this.#log.warn({ vm: vmId, err: error }, `${served.folder.dir} could not be removed`);
    }
    if (served.handle !== undefined) this.#track(served.handle.close());
  }

  /** From the VM's own socket, by which the receiver can tell whose it is. */
  #notify(vmId: string, type: NotifyType, data: Uint8Array): void {
    if (this.#notifyPath === undefined) return;
    this.#served.get(vmId)?.handle?.send(this.#notifyPath, encodeNotification(type, data));
  }

  #track(settling: Promise<void>): void {
    this.#settling.add(settling);
    void settling.finally(() => this.#settling.delete(settling));
  }

  #failed(vmId: string, error: unknown): void {
    const { message } = toAppError(error);
    this.#log.warn({ vm: vmId, error: message }, 'the VM has no mconsole socket');
  }
}

function checkSocketPath(file: string): void {
  const length = Buffer.byteLength(path.resolve(file));
  if (length <= SOCKET_PATH_MAX) return;
  throw new AppError('invalid_input', `the notify socket's path has ${length} bytes: ${file}`, {
    field: '--uml-notify',
    remedy: `use a path of at most ${SOCKET_PATH_MAX} bytes`,
  });
}

/** What the guest wrote, from the data of `vm.notification`. */
function notifiedBytes({ text, base64 }: Readonly<Record<string, unknown>>): Uint8Array {
  return typeof base64 === 'string' ? Buffer.from(base64, 'base64') : Buffer.from(String(text));
}
