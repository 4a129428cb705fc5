/** Entry of a share's process: a server of 9P whose calls may take as long as they like. Ends with its input. */
import { toAppError } from '../contracts/errors.ts';
import type { ShareConfig } from '../contracts/machine.ts';
import { encodeFrame, FRAME, type Frame, FrameReader } from './frames.ts';
import { openFolder } from './open-folder.ts';
import type { Share } from './share.ts';

const reader = new FrameReader();
let share: Share | undefined;

function send(id: number, payload: Uint8Array): void {
  process.stdout.write(encodeFrame({ id, room: 0, payload }));
}

/** Nothing is the answer of a folder that is open. */
function open(config: ShareConfig): void {
  try {
    share = openFolder(config, false);
    send(FRAME.OPEN, new Uint8Array());
  } catch (error) {
    send(FRAME.OPEN, Buffer.from(JSON.stringify(toAppError(error).toPlain())));
  }
}

function take({ id, room, payload }: Frame): void {
  if (id === FRAME.OPEN) open(JSON.parse(Buffer.from(payload).toString('utf8')) as ShareConfig);
  else if (id === FRAME.RESET) share?.reset();
  else share?.serve(payload, room, (reply) => send(id, reply));
}

// Whoever started it ends it, also when a terminal interrupts them both.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.stdin.on('data', (bytes: Buffer) => {
  for (const frame of reader.push(bytes)) take(frame);
});
process.stdin.once('end', () => void share?.close());
process.stdout.once('error', () => process.exit(1));
