/** A port of a running uml_switch or vde_switch: the client's side of their protocol (uml/control-request.ts). */
import { randomBytes } from 'node:crypto';
import type { FrameTransfer } from '../uml/frame-slots.ts';
import { encodeRequest } from '../uml/control-request.ts';
import { connectSocket, Epoll, EPOLLIN, libc, openDatagramSocket, unixAddress } from '../uml/libc.ts';
import { openStreamSocket, readBytes, writeBytes } from './sockets.ts';
import type { Link, LinkOpener } from './link.ts';

const NAME_BYTES = 108;
const ADDRESS_BYTES = 110;
const ANSWER_MS = 3000;
/** Of vde_switch's requests: port wanted, and a text for its administrator. */
const TYPE_AT = 8;
const DESCRIPTION_AT = 122;

/** `request`: what is written to the control socket, for the 108 bytes of our data socket's name. */
function switchLink(control: string, request: (name: Uint8Array) => Uint8Array): LinkOpener {
  return (transfer) => {
    const name = dataSocketName();
    const fd = openDatagramSocket(unixAddress(name));
    let controlFd: number | undefined;
    try {
      controlFd = openStreamSocket(control);
      writeBytes(controlFd, request(name));
      connectSocket(fd, answerTo(controlFd, control));
      return new SwitchLink(transfer, fd, controlFd);
    } catch (error) {
      libc().close(fd);
      if (controlFd !== undefined) libc().close(controlFd);
      throw error;
    }
  };
}

/** By uml_switch's control socket. */
export function daemonLink(socket: string): LinkOpener {
  return switchLink(socket, encodeRequest);
}

/** By the folder of vde_switch's sockets. `port` 0: any. */
export function vdeLink(folder: string, port: number, description: string): LinkOpener {
  return switchLink(`${folder}/ctl`, (name) => {
    const text = Buffer.from(`${description} user=${process.getuid?.() ?? 0} pid=${process.pid}`, 'latin1');
    const bytes = Buffer.concat([encodeRequest(name).subarray(0, DESCRIPTION_AT), text]);
    bytes.writeUInt32LE((port << 8) >>> 0, TYPE_AT);
    return bytes;
  });
}

/** An abstract name of the form that UML uses, all 108 bytes of it, which nobody can guess. */
function dataSocketName(): Uint8Array {
  const name = Buffer.alloc(NAME_BYTES);
  name.writeUInt32LE(process.pid, 4);
  name.set(randomBytes(16), 8);
  return name;
}

/** The address of the switch's data socket, which is what it answers. */
function answerTo(controlFd: number, path: string): Uint8Array {
  const epoll = new Epoll();
  try {
    epoll.add(controlFd, EPOLLIN);
    let isReady = false;
    epoll.wait(ANSWER_MS, () => {
      isReady = true;
    });
    const answer = isReady ? readBytes(controlFd, ADDRESS_BYTES) : new Uint8Array(0);
    if (answer.length === ADDRESS_BYTES) return answer;
    const why = isReady ? 'has refused' : 'does not answer';
    throw Object.assign(new Error(`the switch at ${path} ${why}`), { code: 'ECONNREFUSED' });
  } finally {
    epoll.close();
  }
}

class SwitchLink implements Link {
  readonly fd: number;
  readonly controlFd: number;
  readonly #transfer: FrameTransfer;

  constructor(transfer: FrameTransfer, fd: number, controlFd: number) {
    this.#transfer = transfer;
    this.fd = fd;
    this.controlFd = controlFd;
  }

  receive(): number {
    return this.#transfer.receive(this.fd);
  }

  send(...what: Parameters<Link['send']>): ReturnType<Link['send']> {
    return this.#transfer.send(this.fd, ...what);
  }

  close(): void {
    libc().close(this.fd);
    libc().close(this.controlFd);
  }
}
