import { z } from 'zod';
import { Bytes, Timestamp } from './common.ts';

export const SCROLLBACK_BYTES = 256 * 1024;

export const Console = z.object({
  name: z.string().meta({ examples: ['ttyS0'] }),
  viewers: z.int(),
  channel: z
    .string()
    .nullable()
    .meta({ description: 'What it is joined to on the host, as UML tells it: pts:/dev/pts/5, port:9000, …' }),
  scrollback_bytes: Bytes.meta({ description: `Sent when a viewer comes; at most ${SCROLLBACK_BYTES}` }),
});
export type Console = z.infer<typeof Console>;
export const ConsoleList = z.object({ items: z.array(Console) });
export type ConsoleList = z.infer<typeof ConsoleList>;

/** `none` takes it away from what it is joined to; consoles but the first are then gone. */
export const ConsoleUpdate = z.strictObject({
  channel: z
    .string()
    .min(1)
    .max(400)
    .meta({ examples: ['pts', 'port:9000', 'tty:/dev/ttyUSB0', 'null,pts', 'none'] }),
});
export type ConsoleUpdate = z.infer<typeof ConsoleUpdate>;

export const ConsoleTicketCreate = z.strictObject({
  read_only: z.boolean().default(false).meta({ description: 'A viewer whose input is dropped' }),
});

/** Opens one WebSocket, once, within `expires_at`. Binary messages are raw bytes both ways, text messages the viewer's size. */
export const ConsoleTicket = z.object({
  ticket: z.string(),
  path: z.string().meta({ description: 'Path and query of the WebSocket' }),
  expires_at: Timestamp,
});
export type ConsoleTicket = z.infer<typeof ConsoleTicket>;

/** A text message by which a viewer tells the size of its terminal, for consoles that can pass it on. */
export const ConsoleSize = z.strictObject({
  columns: z.int().min(1).max(0xffff),
  rows: z.int().min(1).max(0xffff),
});
export type ConsoleSize = z.infer<typeof ConsoleSize>;

/** Undefined for what is no such message. */
export function parseConsoleSize(text: string): ConsoleSize | undefined {
  if (!text.startsWith('{"columns":')) return undefined;
  try {
    return ConsoleSize.safeParse(JSON.parse(text)).data;
  } catch {
    // Somebody types something that begins like one.
    return undefined;
  }
}

/** WebSocket close codes of a console (4000 and up are private, RFC 6455 section 7.4.2). */
export const CONSOLE_CLOSE = {
  /** The VM was deleted or the daemon ends. */
  goingAway: 1001,
  /** The viewer read too slowly and its buffer was full. */
  tooSlow: 4008,
} as const;
