/** A TAP device of the host. */
import { AppError } from '../../contracts/errors.ts';
import type { FrameTransfer } from '../uml/frame-slots.ts';
import { lastErrno, libc, openTap } from '../uml/libc.ts';
import { type Link, type LinkOpener, receiveEnd } from './link.ts';
import { more } from './sockets.ts';

export function tapLink(device: string): LinkOpener {
  return (transfer) => {
    // TUNSETIFF would make one, for the user that is permitted to, under a name that may be mistyped.
    if (more().if_nametoindex(device) === 0) {
      throw new AppError('not_found', `there is no device ${device}`, {
        field: 'uplink.device',
        remedy: `make it with \`umlaut tap create ${device} --owner USER\``,
      });
    }
    return new TapLink(transfer, openTap(device));
  };
}

class TapLink implements Link {
  readonly fd: number;
  readonly #transfer: FrameTransfer;

  constructor(transfer: FrameTransfer, fd: number) {
    this.#transfer = transfer;
    this.fd = fd;
  }

  receive(): number | undefined {
    const count = this.#transfer.receiveFromDevice(this.fd);
    return count > 0 ? count : receiveEnd(-1, lastErrno());
  }

  send(...what: Parameters<Link['send']>): ReturnType<Link['send']> {
    const { sent, end } = this.#transfer.sendToDevice(this.fd, ...what);
    // A device that is down takes nothing and comes back: what is sent meanwhile is lost.
    return end === 'gone' && lastErrno() === 'EIO' ? { sent: what[2], end: 'done' } : { sent, end };
  }

  close(): void {
    libc().close(this.fd);
  }
}
