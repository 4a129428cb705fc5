/** A VM's lines: UML's con0 to con15 and ssl0 to ssl3, which are its consoles, and the channels that they are joined to. */
import { AppError } from '../../contracts/errors.ts';
import type { Channel, Line } from '../../uml/channels.ts';
import { type ChannelOptions, openChannel, type OpenChannel, SharedPorts } from '../channels/index.ts';
import { SERIALS, VIRTIO_CONSOLES } from '../console-names.ts';
import type { ConsoleHub } from './console-hub.ts';

export interface LineName {
  readonly driver: 'con' | 'ssl';
  readonly number: number;
}

/** `con1`, and also by the guest's name, `hvc1`. AppError `not_found`. */
export function parseLineName(text: string): LineName {
  const parsed = /^(con|hvc|ssl|ttyS)(\d{1,2})$/.exec(text);
  const driver = parsed?.[1] === 'con' || parsed?.[1] === 'hvc' ? 'con' : 'ssl';
  const number = Number(parsed?.[2]);
  if (parsed !== null && number < lineCount(driver)) return { driver, number };
  throw new AppError('not_found', `there is no console ${JSON.stringify(text.slice(0, 40))}`, {
    field: 'console',
    remedy: `use con0 to con${VIRTIO_CONSOLES.length - 1}, or ssl0 to ssl${SERIALS.length - 1}`,
  });
}

export const lineCount = (driver: LineName['driver']): number =>
  (driver === 'con' ? VIRTIO_CONSOLES : SERIALS).length;
export const lineText = ({ driver, number }: LineName): string => `${driver}${number}`;
/** What the guest and the API call it. */
export const consoleOf = ({ driver, number }: LineName): string =>
  // INVARIANT: a LineName's number is one that there is.
  (driver === 'con' ? VIRTIO_CONSOLES : SERIALS)[number]!;

/** So many virtio consoles does a guest need for these lines: they have no gaps, and there is always one. */
export function consoleCountFor(lines: Iterable<LineName>): number {
  let count = 1;
  for (const { driver, number } of lines) if (driver === 'con') count = Math.max(count, number + 1);
  return count;
}

interface JoinedLine {
  readonly line: Line;
  /** Input first; one alone where they are the same. Undefined is `null`. */
  readonly channels: readonly (OpenChannel | undefined)[];
}

export interface LineHooks {
  /** For titles of windows. */
  readonly vmName: () => string;
  /** A line's channel has a name of its own, by which it is reached. */
  opened(name: string, device: string): void;
  /** A line's channel has ended by itself. */
  ended(name: string, why: string): void;
}

export class Lines {
  readonly #hub: ConsoleHub;
  readonly #options: ChannelOptions;
  readonly #hooks: LineHooks;
  readonly #joined = new Map<string, JoinedLine>();
  readonly #ports = new SharedPorts();

  constructor(hub: ConsoleHub, options: ChannelOptions, hooks: LineHooks) {
    this.#hub = hub;
    this.#options = options;
    this.#hooks = hooks;
  }

  /** Joins a line, in place of what it was joined to. The console must be there. AppErrors as the channels'. */
  async join(name: LineName, line: Line): Promise<void> {
    this.leave(name);
    const { input, output } = line;
    const isOne = line.input === line.output;
    const first = await this.#open(name, input, true, isOne);
    try {
      const channels = isOne ? [first] : [first, await this.#open(name, output, false, true)];
      this.#joined.set(lineText(name), { line, channels });
    } catch (error) {
      first?.close();
      throw error;
    }
    const device = first?.device;
    if (device !== undefined && (input.kind === 'pts' || input.kind === 'pty'))
      this.#hooks.opened(lineText(name), device);
  }

  leave(name: LineName): void {
    const joined = this.#joined.get(lineText(name));
    this.#joined.delete(lineText(name));
    for (const channel of joined?.channels ?? []) channel?.close();
  }

  /** As UML tells it: each channel with its device, up to the first without one. Undefined when nothing is joined. */
  text(name: LineName): string | undefined {
    const joined = this.#joined.get(lineText(name));
    if (joined === undefined) return undefined;
    const { line, channels } = joined;
    const [first, second] = channels;
    const words = [word(line.input, first)];
    if (channels.length === 2 && first?.device !== undefined) words.push(word(line.output, second));
    return words.join(',');
  }

  close(): void {
    for (const text of [...this.#joined.keys()]) this.leave(parseLineName(text));
  }

  async #open(
    name: LineName,
    channel: Channel,
    reads: boolean,
    writes: boolean,
  ): Promise<OpenChannel | undefined> {
    if (channel.kind === 'null') return undefined;
    const kind = name.driver === 'con' ? 'Virtual Console' : 'Serial Line';
    const context = {
      title: `${kind} #${name.number} (${this.#hooks.vmName()})`,
      reads,
      writes,
      join: (viewer: Parameters<ConsoleHub['attach']>[1], wantsScrollback: boolean) =>
        this.#hub.attach(consoleOf(name), viewer, wantsScrollback),
      ended: (why: string) => this.#hooks.ended(lineText(name), why),
    };
    return await openChannel(channel, context, this.#ports, this.#options);
  }
}

function word({ kind }: Channel, open: OpenChannel | undefined): string {
  return open?.device === undefined ? kind : `${kind}:${open.device}`;
}
