/** Notifications of UML's management console (`mconsole=notify:PATH`): datagrams of magic, version, type, length and data. */
import { DATA_MAX, MAGIC, VERSION } from './request.ts';

export const NOTIFY = {
  /** The console is up: its path, with a NUL. */
  SOCKET: 0,
  /** The guest's kernel has panicked: its message, with a NUL. */
  PANIC: 1,
  /** The guest has not reset its watchdog in time: no data. */
  HANG: 2,
  /** What a program in the guest wrote, as it is. */
  USER: 3,
} as const;
export type NotifyType = (typeof NOTIFY)[keyof typeof NOTIFY];

const NOTIFY_HEADER_BYTES = 16;

/** Longer data are cut, as UML's. */
export function encodeNotification(type: NotifyType, data: Uint8Array): Uint8Array {
  const cut = data.subarray(0, DATA_MAX);
  const bytes = Buffer.alloc(NOTIFY_HEADER_BYTES + cut.length);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(VERSION, 4);
  bytes.writeUInt32LE(type, 8);
  bytes.writeUInt32LE(cut.length, 12);
  bytes.set(cut, NOTIFY_HEADER_BYTES);
  return bytes;
}

/** Text with its NUL, cut so that the NUL is within the limit. */
export function notifyText(text: string): Uint8Array {
  return Buffer.concat([Buffer.from(text, 'utf8').subarray(0, DATA_MAX - 1), Buffer.alloc(1)]);
}
