/** Channels: what a VM's consoles and serial lines are joined to on the host. */
import { AppError } from '../../contracts/errors.ts';
import type { Channel } from '../../uml/channels.ts';
import type { ChannelContext, OpenChannel } from './channel.ts';
import { openDescriptor } from './descriptor.ts';
import type { SharedPorts } from './shared-port.ts';
import { openPts, openTty } from './terminal.ts';
import type { Xterm } from '../../uml/command-line.ts';
import { openXterm, XTERM } from './xterm.ts';

export type { OpenChannel } from './channel.ts';
export { SharedPorts } from './shared-port.ts';

export interface ChannelOptions {
  /** Descriptors are this process's own: a daemon has none to give. */
  readonly descriptors: boolean;
  readonly xterm?: Xterm | undefined;
}

/**
 * AppErrors as the kinds' own.
 * @param ports that the VM's lines share
 */
export async function openChannel(
  channel: Exclude<Channel, { kind: 'null' }>,
  context: ChannelContext,
  ports: SharedPorts,
  { descriptors, xterm = XTERM }: ChannelOptions,
): Promise<OpenChannel> {
  switch (channel.kind) {
    case 'pts':
    case 'pty':
      return openPts(context);
    case 'tty':
      return openTty(channel.path, context);
    case 'port':
      return ports.open(channel.address, channel.port, context);
    case 'xterm':
      return openXterm(xterm, context);
    case 'fd':
      if (descriptors) return openDescriptor(channel.fd, context);
      throw new AppError('invalid_input', 'a daemon has no descriptors for a console', {
        field: 'channel',
        remedy: 'use pts, tty:DEVICE, port:N, xterm, null or none',
      });
  }
}
