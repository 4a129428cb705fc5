/**
 * The data path of a UML switch: a segment whose ports are datagram sockets, TAP devices, and at most one port of
 * another switch. Its thread sleeps in epoll_wait and nowhere else, so it is woken through an eventfd.
 */
import { randomBytes } from 'node:crypto';
import { AppError } from '../../contracts/errors.ts';
import type { Outlet, Port } from '../fabric/port.ts';
import { Segment } from '../fabric/segment.ts';
import { hasOffload } from '../offload/offload.ts';
import { Segmenter } from '../offload/segmenter.ts';
import { type RingConsumer, RingCorruptError } from '../ring/consumer.ts';
import { Endpoint, PATIENCE_MS } from './endpoint.ts';
import { BATCH, FrameTransfer } from './frame-slots.ts';
import {
  clearEventFd,
  connectSocket,
  EPOLLIN,
  EPOLLOUT,
  Epoll,
  libc,
  openDatagramSocket,
  openTap,
  unixAddress,
} from './libc.ts';
import type { UmlPortInfo } from './messages.ts';

const NAME_BYTES = 108;
/** The thread that started this one can end it only between two system calls, so none waits longer. */
const SLEEP_MS_MAX = 500;

interface DataPort {
  readonly id: string;
  readonly endpoint: Endpoint;
  readonly port: Port;
}

/** A port that waits for another one to have room. */
interface Pause {
  readonly by: Endpoint;
  readonly until: number;
}

/** The end of another switch's port. */
export interface Trunk {
  readonly id: string;
  readonly input: RingConsumer;
  readonly outlet: Outlet;
}

export class DataPath {
  readonly segment: Segment;
  readonly #epoll = new Epoll();
  readonly #transfer = new FrameTransfer();
  readonly #segmenter = new Segmenter();
  readonly #byId = new Map<string, DataPort>();
  readonly #byFd = new Map<number, DataPort>();
  readonly #wakeFd: number;
  #trunk: { readonly input: RingConsumer; readonly port: Port } | undefined;
  readonly #paused = new Map<DataPort, Pause>();
  #running = true;

  constructor(options: { readonly hub: boolean; readonly wakeFd: number }) {
    this.segment = new Segment({ hub: options.hub });
    this.#wakeFd = options.wakeFd;
    this.#epoll.add(options.wakeFd, EPOLLIN);
  }

  /** Adds the port of a client whose data socket has this name. Returns the 108 bytes of the name of ours. Throws AppError. */
  join(portId: string, name: Uint8Array): Uint8Array {
    const own = dataSocketName();
    const fd = openDatagramSocket(unixAddress(own));
    try {
      connectToClient(fd, name);
    } catch (error) {
      libc().close(fd);
      const reason = error instanceof Error ? error.message : String(error);
      throw new AppError('invalid_input', `the client's data socket cannot be reached: ${reason}`);
    }
    this.#add(portId, new Endpoint('socket', fd, this.#transfer, this.#epoll));
    return own;
  }

  /** Adds a TAP device. Throws with errno's name as `code`, RangeError for the device's name. */
  addTap(portId: string, device: string): void {
    this.#add(portId, new Endpoint('device', openTap(device), this.#transfer, this.#epoll));
  }

  addTrunk({ id, input, outlet }: Trunk): void {
    // The arena's frames are copied into the ring at once, so a ring is an outlet as it is.
    this.#trunk = { input, port: this.#port(id, outlet) };
  }

  leave(portId: string): void {
    const known = this.#byId.get(portId);
    if (known === undefined) return;
    this.#byId.delete(portId);
    this.#byFd.delete(known.endpoint.fd);
    this.#paused.delete(known);
    this.segment.remove(known.port);
    known.endpoint.close();
  }

  ports(): UmlPortInfo[] {
    return this.segment.ports().map(({ id, slot, counters }) => ({ id, number: slot, ...counters }));
  }

  /** Forwards until `stop`. `handleMessages` is called each time the eventfd was written. */
  run(handleMessages: () => void): void {
    const ready = (fd: number, events: number): void => {
      if (fd === this.#wakeFd) this.#wake(handleMessages);
      else this.#serve(fd, events);
    };
    while (this.#running) {
      const more = this.#serveTrunk();
      const sleepMs = this.#paused.size > 0 ? PATIENCE_MS : SLEEP_MS_MAX;
      this.#epoll.wait(more ? 0 : sleepMs, ready);
      if (this.#paused.size > 0) this.#resume();
    }
    for (const id of [...this.#byId.keys()]) this.leave(id);
    this.#epoll.close();
  }

  stop(): void {
    this.#running = false;
  }

  #add(portId: string, endpoint: Endpoint): void {
    try {
      const port = this.#port(portId, endpoint);
      endpoint.port = port;
      const added = { id: portId, endpoint, port };
      this.#byId.set(portId, added);
      this.#byFd.set(endpoint.fd, added);
    } catch (error) {
      endpoint.close();
      throw error;
    }
  }

  #port(id: string, outlet: Outlet): Port {
    const port = this.segment.add(id, outlet);
    if (port === undefined) throw new AppError('quota_exceeded', 'the switch has no free port');
    return port;
  }

  #wake(handleMessages: () => void): void {
    clearEventFd(this.#wakeFd);
    handleMessages();
  }

  #serve(fd: number, events: number): void {
    const known = this.#byFd.get(fd);
    if (known === undefined) return;
    if ((events & EPOLLOUT) !== 0) known.endpoint.drain();
    if ((events & ~EPOLLOUT) === 0) return;
    const count = known.endpoint.receive();
    this.#forward(known.port, count);
    this.#pauseFor(known, count);
    // A device that was removed: it would be ready for ever.
    const isGone = known.endpoint.kind === 'device' && count === 0 && (events & EPOLLIN) === 0;
    if (isGone) this.leave(known.id);
  }

  /** The last frame's receiver stands for all of the batch. */
  #pauseFor(sender: DataPort, count: number): void {
    if (count === 0) return;
    const by = this.#receiverOf(count - 1);
    if (by === undefined || by === sender.endpoint || !by.isCongested) return;
    sender.endpoint.paused = true;
    this.#paused.set(sender, { by, until: performance.now() + PATIENCE_MS });
  }

  /** Of a frame in the arena that is for one port alone. */
  #receiverOf(slot: number): Endpoint | undefined {
    const port = this.segment.receiverOf(this.#transfer.arena.select(slot));
    return port && this.#byId.get(port.id)?.endpoint;
  }

  #resume(): void {
    for (const [sender, { by, until }] of this.#paused) {
      const late = performance.now() >= until;
      if (!by.isRelieved && !late) continue;
      if (by.isRelieved) by.keepUp();
      else by.giveUp();
      this.#paused.delete(sender);
      sender.endpoint.paused = false;
    }
  }

  #forward(from: Port, count: number): void {
    const { arena } = this.#transfer;
    this.segment.setTime(performance.now() / 1000);
    for (let slot = 0; slot < count; slot++) this.segment.forward(from, arena.select(slot));
    this.segment.flush();
  }

  /** Into the arena, which has `count` frames, in the sizes that datagrams can have. Gives their number. */
  #takeFromTrunk(input: RingConsumer, port: Port, count: number): number {
    const { arena } = this.#transfer;
    if (!hasOffload(input)) return arena.put(count, input) ? count + 1 : count;
    let filled = count;
    this.#segmenter.begin(input);
    while (this.#segmenter.next()) {
      if (filled === BATCH) {
        this.#forward(port, filled);
        filled = 0;
      }
      if (arena.put(filled, this.#segmenter.frame)) filled++;
    }
    if (filled < BATCH) return filled;
    this.#forward(port, filled);
    return 0;
  }

  /** True when there is more, or there may be. */
  #serveTrunk(): boolean {
    const trunk = this.#trunk;
    if (trunk === undefined) return false;
    const { input, port } = trunk;
    try {
      let turns = 0;
      let count = 0;
      for (; turns < BATCH && input.next(); turns++) count = this.#takeFromTrunk(input, port, count);
      input.release();
      this.#forward(port, count);
      return turns === BATCH || !input.arm();
    } catch (error) {
      if (!(error instanceof RingCorruptError)) throw error;
      this.segment.remove(trunk.port);
      this.#trunk = undefined;
      return false;
    }
  }
}

/** An abstract name as uml_switch's: NUL, 3 bytes, process and a number; but one that nobody can guess. */
function dataSocketName(): Uint8Array {
  const name = Buffer.alloc(NAME_BYTES);
  name.writeUInt32LE(process.pid, 4);
  name.set(randomBytes(16), 8);
  return name;
}

/** By all 108 bytes, as uml_switch does, or else by the abstract name without the NULs at its end. */
function connectToClient(fd: number, name: Uint8Array): void {
  const address = unixAddress(name);
  try {
    connectSocket(fd, address);
  } catch (error) {
    const end = address.findLastIndex((byte) => byte !== 0) + 1;
    if (name[0] !== 0 || end <= 3) throw error;
    connectSocket(fd, address.subarray(0, end));
  }
}
