/** A disk with Debian's qemu-guest-agent and all libraries that it needs. Built once, kept in build/guest-agent. */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Apt } from '../../src/images/apt.ts';
import { makeExt4 } from '../../src/images/rootfs.ts';
import { rootfsTools, unpack } from '../../src/images/rootfs-tools.ts';

const PACKAGE = 'qemu-guest-agent';
const DISK_BYTES = 256 << 20;
const SELF = fileURLToPath(import.meta.url);
const CACHE = path.join(path.dirname(SELF), '../../build/guest-agent');

/** The path of the disk. AppErrors `tool_missing` and `job_failed` say what the host lacks. */
export async function guestAgentDisk(): Promise<string> {
  const key = createHash('sha256').update(fs.readFileSync(SELF)).digest('hex').slice(0, 16);
  const folder = path.join(CACHE, key);
  if (!fs.existsSync(folder)) {
    // What an interrupted build leaves is not taken for a disk.
    const draft = `${folder}.${process.pid}`;
    fs.mkdirSync(draft, { recursive: true });
    await build(draft);
    fs.renameSync(draft, folder);
  }
  return path.join(folder, 'disk');
}

async function build(folder: string): Promise<void> {
  const subfolder = (name: string): string => {
    const made = path.join(folder, name);
    fs.mkdirSync(made);
    return made;
  };
  const [packages, root] = [subfolder('packages'), subfolder('root')];
  const apt = await Apt.open(packages, PACKAGE);
  const files = await apt.download(await apt.closure([PACKAGE]), () => undefined);
  await unpack(files, root, undefined);
  // As users have it: the loader finds nothing by itself, for it is not where it was built for.
  const tools = await rootfsTools(subfolder('tools'), undefined);
  await makeExt4(tools, root, path.join(folder, 'disk'), DISK_BYTES, undefined);
  for (const name of ['packages', 'root', 'tools']) fs.rmSync(path.join(folder, name), { recursive: true });
}
