/** The management console's socket of a VM in the foreground. */
import { randomInt } from 'node:crypto';
import { homedir } from 'node:os';
import * as path from 'node:path';
import { AppError, toAppError } from '../../contracts/errors.ts';
import { type SocketAnswer, SocketServer } from '../../mconsole/socket/socket-server.ts';
import type { Target } from '../../mconsole/target.ts';
import { dispatch } from '../../mconsole/verbs/index.ts';
import { claimUmid, isUmid, releaseUmid, type UmidFolder } from '../../mconsole/socket/umid-folder.ts';
import { encodeNotification, NOTIFY, type NotifyType, notifyText } from '../../mconsole/wire/notify.ts';
import type { UmlCommandLine } from '../../uml/command-line.ts';
import { defaultUmlDir } from '../home.ts';
import type { Io } from '../io.ts';

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** As UML: the name that was asked for, or another when that is in use or too long. */
export function claimFolder({ umid, umlDir }: UmlCommandLine, io: Io): UmidFolder {
  const dir = umlDir === undefined ? defaultUmlDir(io.env) : expandHome(umlDir);
  if (umid !== undefined && isUmid(umid)) {
    const folder = claimUmid(path.resolve(dir), umid, () => false);
    if (folder !== undefined) return folder;
    io.stderr.write(`umlaut: umid "${umid}" is already in use\n`);
  } else if (umid !== undefined) io.stderr.write('umlaut: the umid is not one that UML would take\n');
  const random = Array.from({ length: 6 }, () => LETTERS[randomInt(LETTERS.length)]).join('');
  const folder = claimUmid(path.resolve(dir), random, () => false);
  if (folder === undefined) throw new AppError('in_use', `no umid is free in ${dir}`, { field: 'umid' });
  return folder;
}

/** Only at its beginning, as UML does. */
function expandHome(dir: string): string {
  return dir === '~' || dir.startsWith('~/') ? path.join(homedir(), dir.slice(1)) : dir;
}

export interface ForegroundConsole {
  notify(type: NotifyType, data: Uint8Array): void;
  close(): Promise<void>;
}

/** A machine without its console runs all the same, as in UML: what goes wrong is printed. */
export async function openConsole(
  folder: UmidFolder,
  target: Target,
  notifyPath: string | undefined,
  io: Io,
): Promise<ForegroundConsole> {
  const report = (error: unknown): void => {
    io.stderr.write(`umlaut: the VM has no mconsole socket: ${toAppError(error).message}\r\n`);
  };
  const server = new SocketServer(report);
  // As UML, one command at a time.
  let last: Promise<unknown> = Promise.resolve();
  const handle = await server
    .open(folder.socket, (text) => {
      const answered = last.then(() => answer(target, text));
      last = answered;
      return answered;
    })
    .catch(report);
  const notify = (type: NotifyType, data: Uint8Array): void => {
    if (notifyPath !== undefined) handle?.send(path.resolve(notifyPath), encodeNotification(type, data));
  };
  notify(NOTIFY.SOCKET, notifyText(folder.socket));
  return {
    notify,
    async close() {
      releaseUmid(folder);
      await handle?.close();
      await server.close();
    },
  };
}

async function answer(target: Target, text: string): Promise<SocketAnswer> {
  try {
    const { err, text: reply } = await dispatch(target, text);
    return { err, text: reply };
  } catch (error) {
    return { err: 1, text: toAppError(error).message };
  }
}
