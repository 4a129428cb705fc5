/** `umlaut network capture` */
import { createWriteStream } from 'node:fs';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import { AppError } from '../../contracts/errors.ts';
import { CommandContext } from '../context.ts';
import type { Io } from '../io.ts';
import { parseBytes, parseCount } from '../parse.ts';

interface CaptureOptions {
  readonly nic?: string;
  readonly port?: string;
  readonly filter?: string;
  readonly snapLength?: number;
  readonly seconds?: number;
  readonly size?: number;
  readonly write: string;
}

export function registerCapture(network: Command, io: Io): void {
  network
    .command('capture')
    .argument('<network>', 'or, with --nic, a VM')
    .option('--nic <device>', 'only this network card of the VM, both directions')
    .option('--port <port>', 'only this port of the network')
    .option('--filter <expression>', 'as for tcpdump, such as "tcp port 80"')
    .option('--snap-length <bytes>', 'of each frame', parseCount)
    .option('--seconds <seconds>', 'ends after this time (60)', parseCount)
    .option('--size <size>', 'ends before the file is longer (16M)', parseBytes)
    .option('--write <file>', '"-" is standard output', '-')
    .description('frames as they go by, as pcapng for tcpdump -r and Wireshark')
    .action(async (target: string, options: CaptureOptions, command: Command) => {
      if (options.write === '-' && io.stdout.isTTY === true) {
        throw new AppError('invalid_input', 'the capture would go to the terminal', {
          field: '--write',
          remedy: 'name a file, or pipe it: umlaut network capture default | tcpdump -r -',
        });
      }
      const { client } = new CommandContext(command, io);
      const query = {
        filter: options.filter,
        snap_length: options.snapLength,
        max_seconds: options.seconds,
        max_bytes: options.size,
      };
      const { nic, port } = options;
      const body =
        nic === undefined
          ? await client.captureNetwork(target, { ...query, port })
          : await client.captureNic(target, nic, query);
      await pipeline(
        Readable.fromWeb(body),
        options.write === '-' ? toOutput(io) : createWriteStream(options.write),
      );
    });
}

function toOutput(io: Io): Writable {
  return new Writable({
    write(chunk: Uint8Array, _encoding, done) {
      io.stdout.write(chunk);
      done();
    },
  });
}
