/** A Unix socket of packets, a frame each: UML's transport `bess`, after the switch that it was made for. */
import { lstatSync, unlinkSync } from 'node:fs';
import { AppError } from '../../contracts/errors.ts';
import type { FrameSlots, FrameTransfer } from '../uml/frame-slots.ts';
import { AF_UNIX, check, libc } from '../uml/libc.ts';
import type { Link, LinkOpener } from './link.ts';
import { CLOEXEC, opened, pathAddress, SOCK_SEQPACKET } from './sockets.ts';

/** @param local what our end is bound to, if the other side asks for that */
export function bessLink(socket: string, local: string | undefined): LinkOpener {
  return (transfer) => {
    const fd = check('socket', libc().socket(AF_UNIX, SOCK_SEQPACKET | CLOEXEC, 0));
    opened(fd, () => {
      if (local !== undefined) bindAnew(fd, local);
      const to = pathAddress(socket);
      check(socket, libc().connect(fd, to, to.length));
    });
    return new PacketSocketLink(transfer, fd, local);
  };
}

/** In place of what an earlier run has left. */
function bindAnew(fd: number, path: string): void {
  removeSocket(path);
  const address = pathAddress(path);
  check(path, libc().bind(fd, address, address.length));
}

function removeSocket(path: string): void {
  const known = lstatSync(path, { throwIfNoEntry: false });
  if (known === undefined) return;
  if (!known.isSocket()) {
    throw new AppError('conflict', `${path} is there, and is no socket`, {
      field: 'uplink.local',
      remedy: 'name a path where there is nothing',
    });
  }
  unlinkSync(path);
}

class PacketSocketLink implements Link {
  readonly fd: number;
  readonly #transfer: FrameTransfer;
  readonly #local: string | undefined;

  constructor(transfer: FrameTransfer, fd: number, local: string | undefined) {
    this.#transfer = transfer;
    this.fd = fd;
    this.#local = local;
  }

  receive(): number | undefined {
    const { arena } = this.#transfer;
    const count = this.#transfer.receive(this.fd);
    // Packets of no bytes are what comes when the other side has closed it.
    const end = arena.lengths.subarray(0, count).indexOf(0);
    if (end === 0) return undefined;
    return end < 0 ? count : end;
  }

  send(from: FrameSlots, slots: Int32Array, count: number): ReturnType<Link['send']> {
    return this.#transfer.send(this.fd, from, slots, count);
  }

  close(): void {
    libc().close(this.fd);
    if (this.#local !== undefined) removeSocket(this.#local);
  }
}
