/** From UML's command line to a machine's configuration. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { AppError } from '../../contracts/errors.ts';
import type { DiskConfig, MachineConfig } from '../../contracts/machine.ts';
import { type ImageManifest, MANIFEST_FILE, parseManifest } from '../../images/manifest.ts';
import { backingFileOf } from '../../storage/index.ts';
import type { Line } from '../../uml/channels.ts';
import type { UmlCommandLine } from '../../uml/command-line.ts';
import type { Ubd } from '../../uml/ubd.ts';

const MEMORY_DEFAULT_BYTES = 256 * 2 ** 20;
const IMAGE_NAME = 'default';
const FD_LINE: Line = { input: { kind: 'fd', fd: 0 }, output: { kind: 'fd', fd: 1 }, text: 'fd:0,fd:1' };
/** Lines that the machine has. */
const CONS = 1;
const SSLS = 4;

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
  };
}

function diskOf(device: string, { file, backing, readOnly, plain }: Ubd): DiskConfig {
  if (backing !== undefined) return { device, file: backing, cow: file, readOnly };
  const named = plain ? undefined : backingFileOf(file);
  return named === undefined ? { device, file, readOnly } : { device, file: named, cow: file, readOnly };
}

/** By the guest's names: hvc0 is con0, ttyS0 is ssl0. AppError `invalid_input` for a line that the machine does not have. */
export function linesOf({ cons, ssls }: UmlCommandLine): Map<string, Line> {
  const lines = new Map<string, Line>();
  if (!cons.has(0)) lines.set('hvc0', FD_LINE);
  for (const [number, line] of cons) if (line !== undefined) addLine(lines, 'con', 'hvc', number, CONS, line);
  for (const [number, line] of ssls)
    if (line !== undefined) addLine(lines, 'ssl', 'ttyS', number, SSLS, line);
  return lines;
}

function addLine(
  lines: Map<string, Line>,
  driver: string,
  device: string,
  number: number,
  count: number,
  line: Line,
): void {
  if (number < count) {
    lines.set(`${device}${number}`, line);
    return;
  }
  // Nothing is lost where nothing would come out.
  if (line.input.kind === 'null' && line.output.kind === 'null') return;
  throw new AppError('invalid_input', `the machine has no ${driver}${number}`, {
    field: `${driver}${number}`,
    remedy: `use ${driver}0${count === 1 ? '' : ` to ${driver}${count - 1}`}`,
  });
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
