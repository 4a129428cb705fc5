/** Which process holds a lease, so that others on the same machine can see that it has ended. */
import * as fs from 'node:fs';
import { hostname } from 'node:os';
import { systemErrorCode } from '../../contracts/errors.ts';

export interface LeaseHolder {
  readonly host: string;
  readonly pid: number;
  /** Of the running kernel, another one after each boot; empty where that is not told. */
  readonly boot: string;
  /** A pid and a start mean a process within these alone. */
  readonly namespaces: string;
  /** Clock ticks after the boot, as proc_pid_stat(5) has them: pids are used again. */
  readonly started: string;
}

export function ownProcess(): LeaseHolder {
  const { pid } = process;
  const known = { host: hostname(), pid };
  try {
    const boot = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    const namespaces = ['pid', 'time'].map((kind) => fs.readlinkSync(`/proc/self/ns/${kind}`)).join(' ');
    return { ...known, boot, namespaces, started: startOf(pid) };
  } catch {
    // No proc file system, or an old kernel: then nobody can tell whether it still runs.
    return { ...known, boot: '', namespaces: '', started: '' };
  }
}

/** Whether it is certain that it runs no more. False for a process that cannot be seen from here. */
export function hasEnded(holder: LeaseHolder, own: LeaseHolder = ownProcess()): boolean {
  const visible = own.boot !== '' && holder.boot === own.boot && holder.namespaces === own.namespaces;
  if (!visible) return false;
  try {
    // Tells of processes of other users too, which proc may hide.
    process.kill(holder.pid, 0);
  } catch (error) {
    if (systemErrorCode(error) === 'ESRCH') return true;
  }
  try {
    return startOf(holder.pid) !== holder.started;
  } catch {
    return false;
  }
}

/** Field 22 of its stat; the name before it may have anything but a last parenthesis. */
function startOf(pid: number): string {
  const text = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
  const started = text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  if (started === undefined) throw new Error(`/proc/${pid}/stat has no start`);
  return started;
}
