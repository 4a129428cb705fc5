/** A running VM's folder, as UML makes it (arch/um/os-Linux/umid.c): UMID/pid and UMID/mconsole. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { systemErrorCode } from '../../contracts/errors.ts';

/** The longest name of UML. */
export const UMID_MAX = 63;

export interface UmidFolder {
  readonly umid: string;
  readonly dir: string;
  /** Where its socket belongs. */
  readonly socket: string;
}

const at = (umlDir: string, umid: string): UmidFolder => {
  const dir = path.join(umlDir, umid);
  return { umid, dir, socket: path.join(dir, 'mconsole') };
};

/** A single path component that UML would take. */
export function isUmid(name: string): boolean {
  return (
    name !== '' && name !== '.' && name !== '..' && Buffer.byteLength(name) <= UMID_MAX && !/[/\0]/.test(name)
  );
}

/** All that UML makes in it. A folder with anything else is somebody's, whatever its name. */
const FILES: readonly string[] = ['pid', 'mconsole'];

/**
 * Makes the folder with its pid file. Undefined when the name is in use: by a live process that the pid file names, by
 * this one (`taken`), or by something that is no such folder. What a dead process has left is removed. System errors
 * are thrown.
 */
export function claimUmid(
  umlDir: string,
  umid: string,
  taken: (umid: string) => boolean,
  isAlive: (pid: number) => boolean = processIsAlive,
): UmidFolder | undefined {
  if (taken(umid)) return undefined;
  const folder = at(umlDir, umid);
  fs.mkdirSync(umlDir, { recursive: true, mode: 0o700 });
  try {
    fs.mkdirSync(folder.dir, { mode: 0o700 });
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST') throw error;
    const pid = pidOf(folder);
    // With our own number it was written by another process that had it before: `taken` knows ours.
    if (pid !== undefined && pid !== process.pid && isAlive(pid)) return undefined;
    if (!isLeftOver(folder)) return undefined;
    for (const file of FILES) fs.rmSync(path.join(folder.dir, file), { force: true });
  }
  fs.writeFileSync(path.join(folder.dir, 'pid'), `${process.pid}\n`, { flag: 'wx', mode: 0o644 });
  return folder;
}

function isLeftOver({ dir }: UmidFolder): boolean {
  return fs.lstatSync(dir).isDirectory() && fs.readdirSync(dir).every((file) => FILES.includes(file));
}

/** Removes the folder. It may be gone already. */
export function releaseUmid(folder: UmidFolder): void {
  fs.rmSync(folder.dir, { recursive: true, force: true });
}

function pidOf(folder: UmidFolder): number | undefined {
  let text: string;
  try {
    text = fs.readFileSync(path.join(folder.dir, 'pid'), 'utf8');
  } catch {
    // As UML: a folder without a readable pid file is nobody's.
    return undefined;
  }
  return /^[1-9]\d{0,9}\n?$/.test(text) ? Number(text) : undefined;
}

function processIsAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemErrorCode(error) === 'EPERM';
  }
}
