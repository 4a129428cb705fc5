/** From UML's command line to a machine's configuration. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { AppError } from '../../contracts/errors.ts';
import type { DiskConfig, MachineConfig, ShareConfig } from '../../contracts/machine.ts';
import { type ImageManifest, MANIFEST_FILE, parseManifest } from '../../images/manifest.ts';
import { backingFileOf } from '../../storage/index.ts';
import type { Line } from '../../uml/channels.ts';
import { type Hostfs, HOSTFS_TAG } from '../../uml/hostfs.ts';
import { readHppfs } from '../../uml/hppfs.ts';
import { shareConfig } from '../share-options.ts';
import type { UmlCommandLine } from '../../uml/command-line.ts';
import type { Ubd } from '../../uml/ubd.ts';
import { lineCount, type LineName, lineText } from '../../vmm/index.ts';
import { consoleCountFor } from '../../vmm/instance/lines.ts';

const MEMORY_DEFAULT_BYTES = 256 * 2 ** 20;
const IMAGE_NAME = 'default';
const FD_LINE: Line = {
  input: { kind: 'fd', fd: 0 },
  output: { kind: 'fd', fd: 1 },
  text: 'fd:0,fd:1',
};

export interface GuestKernel {
  readonly kernel: string;
  readonly initrd?: string | undefined;
}

export function machineConfig(line: UmlCommandLine, guest: GuestKernel, umid: string): MachineConfig {
  const hasConsole = line.guest.some((word) => word.startsWith('console='));
  // The last is /dev/console; the first has what is printed before the drivers of virtio.
  const consoles = hasConsole ? [] : ['console=ttyS0', 'console=hvc0'];
  return {
    name: umid,
    memoryBytes: line.memoryBytes ?? MEMORY_DEFAULT_BYTES,
    kernel: guest.kernel,
    initrd: line.initrd ?? guest.initrd,
    append: [...consoles, ...line.guest].join(' '),
    disks: [...line.ubds].map(([unit, ubd]) => diskOf(`ubd${unit}`, ubd)),
    nics: [],
    shares: line.hostfs === undefined ? [] : [hostfsShare(line.hostfs)],
    procFiles: line.hppfs === undefined ? [] : readHppfs(path.resolve(line.hppfs)),
    consoleCount: consoleCountFor(linesOf(line).map(({ name }) => name)),
  };
}

export function hostfsShare({ root, append }: Hostfs): ShareConfig {
  return { ...shareConfig({ tag: HOSTFS_TAG, path: path.resolve(root) }), append };
}

/** A COW file that names its own backing file is taken for one, as in UML. */
export function diskOf(
  device: string,
  { file, backing, serial, plain, readOnly, synchronous, noDiscard, unlocked }: Ubd,
): DiskConfig {
  const settings = { device, serial, readOnly, synchronous, noDiscard };
  if (backing !== undefined) return { ...settings, file: backing, cow: file };
  const named = plain ? undefined : backingFileOf(file);
  return named === undefined ? { ...settings, file, unlocked } : { ...settings, file: named, cow: file };
}

export interface ConfiguredLine {
  readonly name: LineName;
  readonly line: Line;
}

/** AppError `invalid_input` for a line that the machine does not have, or a descriptor that two lines would read. */
export function linesOf({ cons, ssls }: UmlCommandLine): ConfiguredLine[] {
  const lines: ConfiguredLine[] = [];
  if (!cons.has(0)) lines.push({ name: { driver: 'con', number: 0 }, line: FD_LINE });
  for (const [number, line] of cons) lines.push(...lineOf({ driver: 'con', number }, line));
  for (const [number, line] of ssls) lines.push(...lineOf({ driver: 'ssl', number }, line));
  requireOneReader(lines);
  return lines;
}

function lineOf(name: LineName, line: Line | undefined): ConfiguredLine[] {
  if (line === undefined) return [];
  const count = lineCount(name.driver);
  if (name.number < count) return [{ name, line }];
  // Nothing is lost where nothing would come out.
  if (line.input.kind === 'null' && line.output.kind === 'null') return [];
  throw new AppError('invalid_input', `the machine has no ${lineText(name)}`, {
    field: lineText(name),
    remedy: `use ${name.driver}0 to ${name.driver}${count - 1}`,
  });
}

function requireOneReader(lines: readonly ConfiguredLine[]): void {
  const read = new Set<number>();
  for (const { line } of lines) {
    if (line.input.kind !== 'fd') continue;
    const { fd } = line.input;
    if (read.has(fd)) {
      throw new AppError('invalid_input', `two lines would read descriptor ${fd}`, {
        field: `fd:${fd}`,
        remedy: 'give one of them null for its input, as in ssl0=null,fd:1',
      });
    }
    read.add(fd);
  }
}

/** Kernel and initrd of the image `default` in the state folder. AppError `not_found`. */
export function defaultKernel(home: string): GuestKernel {
  const images = path.join(home, 'images');
  const found = imageFolders(images)
    .map((id) => ({ folder: path.join(images, id), manifest: manifestIn(images, id) }))
    .find(({ manifest }) => manifest?.name === IMAGE_NAME);
  if (found?.manifest === undefined) {
    throw new AppError('not_found', `there is no image ${IMAGE_NAME} in ${images}`, {
      field: '--kernel',
      remedy: 'name a kernel with --kernel, or build the image with `umlaut image build`',
    });
  }
  const { folder, manifest } = found;
  return {
    kernel: path.join(folder, 'kernel'),
    initrd: manifest.parts.initrd === undefined ? undefined : path.join(folder, 'initrd'),
  };
}

function imageFolders(images: string): string[] {
  try {
    // What begins with a dot is being made.
    return fs.readdirSync(images).filter((name) => !name.startsWith('.'));
  } catch {
    // No state folder yet: there is no image either.
    return [];
  }
}

function manifestIn(images: string, id: string): ImageManifest | undefined {
  try {
    return parseManifest(fs.readFileSync(path.join(images, id, MANIFEST_FILE), 'utf8'), id);
  } catch {
    // A damaged image is not the one that is looked for; the daemon tells of it.
    return undefined;
  }
}
