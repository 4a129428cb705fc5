/** What VMs' consoles are joined to on the host: kept in the configuration, joined while the VM runs. */
import { AppError } from '../../contracts/errors.ts';
import type { Console } from '../../contracts/api/index.ts';
import type { Store, VmRow } from '../../db/index.ts';
import { type Channel, type Line, parseLine } from '../../uml/channels.ts';
import type { Principal } from '../access.ts';
import type { EventLog } from '../events.ts';
import type { HostPaths } from '../host-paths.ts';
import { consoleOf, lineText, parseLineName } from '../instance/lines.ts';
import type { Supervisor } from './supervisor.ts';
import type { Vms } from './vms.ts';

export interface ConsoleDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly supervisor: Supervisor;
  readonly vms: Vms;
  readonly hostPaths: HostPaths;
}

export class Consoles {
  readonly #deps: ConsoleDeps;

  constructor(deps: ConsoleDeps) {
    this.#deps = deps;
  }

  list(who: Principal, ref: string): Console[] {
    const { vms, supervisor } = this.#deps;
    const { id } = vms.find(who, ref);
    const all = supervisor.get(id).consoles.list();
    return all.map((console) => ({ ...console, channel: this.channel(who, id, console.name) ?? null }));
  }

  /** By con1 or hvc1: what it is joined to, or will be when the VM runs. AppError `not_found`. */
  channel(who: Principal, ref: string, console: string): string | undefined {
    const { vms, supervisor, store } = this.#deps;
    const { id } = vms.find(who, ref);
    const name = parseLineName(console);
    const joined = supervisor.get(id).lines.text(name);
    return joined ?? store.lines.ofVm(id).find(({ line }) => line === lineText(name))?.channel;
  }

  /**
   * `text` in UML's words; `none` joins it to nothing. AppErrors: `invalid_input`, `not_found`, `in_use`, `tool_missing`,
   * `forbidden` for what only an operator may do, or a device that is not allowed.
   */
  async set(who: Principal, ref: string, console: string, text: string): Promise<Console> {
    const { vms, supervisor, store } = this.#deps;
    const { id } = vms.find(who, ref);
    const name = parseLineName(console);
    const line = parseLine(`${lineText(name)}=${text}`, text);
    if (line !== undefined) await this.#check(who, line);
    const instance = supervisor.get(id);
    await instance.exclusive(async () => {
      const before = store.lines.ofVm(id).find((row) => row.line === lineText(name))?.channel;
      this.#record(id, lineText(name), line?.text);
      try {
        await instance.setLine(name, line);
      } catch (error) {
        this.#record(id, lineText(name), before);
        const earlier = before === undefined ? undefined : parseLine(`${lineText(name)}=${before}`, before);
        // What it was joined to may not be had again either: then it is joined to nothing until the next start.
        await instance.setLine(name, earlier).catch(() => undefined);
        throw error;
      }
    });
    const now = this.list(who, id).find((one) => one.name === consoleOf(name));
    return now ?? { name: consoleOf(name), viewers: 0, scrollback_bytes: 0, channel: null };
  }

  /** Channels reach into the host: they are the operator's, and devices are only those that it allows. */
  async #check(who: Principal, line: Line): Promise<void> {
    const channels: readonly Channel[] = [line.input, line.output];
    if (channels.every(({ kind }) => kind === 'null')) return;
    if (who.role !== 'admin') {
      throw new AppError('forbidden', 'only an operator joins consoles to the host', {
        field: 'channel',
        remedy: 'use the console by the API, which needs none of it',
      });
    }
    for (const channel of channels) {
      if (channel.kind === 'tty') await this.#deps.hostPaths.check(channel.path, 'channel');
    }
  }

  #record(vmId: string, line: string, channel: string | undefined): void {
    const { store, events } = this.#deps;
    store.transaction(() => {
      if (channel === undefined) store.lines.remove(vmId, line);
      else store.lines.set(vmId, line, channel);
      store.vms.touch(vmId, Date.now());
      // INVARIANT: the VM's queue keeps it from being deleted meanwhile.
      const { tenant } = store.vms.get(vmId) as VmRow;
      events.append({ type: 'vm.updated', tenant, resource: { type: 'vm', id: vmId } });
    });
  }
}
