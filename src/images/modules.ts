/** Kernel modules: their dependencies, from the `.modinfo` section that every module carries. */
import * as fs from 'node:fs';
import { readFile } from 'node:fs/promises';
import * as path from 'node:path';
import { AppError } from '../contracts/errors.ts';
import { runTool } from './tools.ts';

export interface KernelModule {
  /** With `_` for `-`, as the kernel compares names. */
  readonly name: string;
  /** Relative to lib/modules/RELEASE. */
  readonly file: string;
  readonly depends: readonly string[];
  readonly aliases: readonly string[];
}

const canonical = (name: string): string => name.replaceAll('-', '_');

/** Well below the longest command line that Linux takes. */
const FILES_PER_COMMAND = 200;

/** Debian 13 compresses its modules with xz: unpacks them in place, with a busybox, which every build has. */
export async function decompressModules(
  folder: string,
  busybox: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const files = fs
    .readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ko.xz'));
  for (let at = 0; at < files.length; at += FILES_PER_COMMAND) {
    await runTool(busybox, ['unxz', ...files.slice(at, at + FILES_PER_COMMAND)], { cwd: folder, signal });
  }
}

/** Reads all modules under lib/modules/RELEASE. Files must be uncompressed. */
export async function readModules(folder: string): Promise<Map<string, KernelModule>> {
  const modules = new Map<string, KernelModule>();
  for (const file of fs.readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ko')) continue;
    const info = modInfo(await readFile(path.join(folder, file)));
    const name = canonical(path.basename(file, '.ko'));
    const depends = info.flatMap(([key, value]) => (key === 'depends' ? value.split(',') : []));
    const aliases = info.flatMap(([key, value]) => (key === 'alias' ? [value] : []));
    modules.set(name, { name, file, depends: depends.filter((item) => item !== '').map(canonical), aliases });
  }
  return modules;
}

/** The key=value strings of an ELF64 object's `.modinfo` section (System V ABI, chapter 4). */
function modInfo(elf: Buffer): [string, string][] {
  const tableOffset = Number(elf.readBigUInt64LE(0x28));
  const entryBytes = elf.readUInt16LE(0x3a);
  const count = elf.readUInt16LE(0x3c);
  const section = (index: number) => {
    const at = tableOffset + index * entryBytes;
    return {
      name: elf.readUInt32LE(at),
      offset: Number(elf.readBigUInt64LE(at + 24)),
      bytes: Number(elf.readBigUInt64LE(at + 32)),
    };
  };
  const names = section(elf.readUInt16LE(0x3e));
  for (let index = 0; index < count; index++) {
    const { name, offset, bytes } = section(index);
    const start = names.offset + name;
    if (elf.toString('latin1', start, start + 9) !== '.modinfo\0') continue;
    const strings = elf.toString('latin1', offset, offset + bytes).split('\0');
    return strings.flatMap((text) => {
      const equals = text.indexOf('=');
      return equals < 0 ? [] : [[text.slice(0, equals), text.slice(equals + 1)] as [string, string]];
    });
  }
  return [];
}

/** Files of the named modules and all that they need, in the order to load them. A name that is built in, or missing, is left out. */
export function loadOrder(
  modules: ReadonlyMap<string, KernelModule>,
  names: readonly string[],
): KernelModule[] {
  const order = new Set<KernelModule>();
  const visit = (name: string, above: readonly string[]): void => {
    const module = modules.get(canonical(name));
    if (module === undefined || order.has(module)) return;
    if (above.includes(name))
      throw new AppError('job_failed', `kernel modules depend on each other: ${above.join(', ')}`);
    for (const needed of module.depends) visit(needed, [...above, name]);
    order.add(module);
  };
  for (const name of names) visit(name, []);
  return [...order];
}

/** modules.dep as depmod writes it: a module's file, then what it needs, the nearest first. */
export function modulesDep(modules: ReadonlyMap<string, KernelModule>): string {
  const lines = [...modules.values()].map((module) => {
    const needed = loadOrder(modules, [module.name]).slice(0, -1).reverse();
    return `${module.file}:${needed.map(({ file }) => ` ${file}`).join('')}\n`;
  });
  return lines.sort().join('');
}

/** modules.alias as depmod writes it. */
export function modulesAlias(modules: ReadonlyMap<string, KernelModule>): string {
  return [...modules.values()]
    .flatMap(({ name, aliases }) => aliases.map((alias) => `alias ${alias} ${name}\n`))
    .join('');
}
