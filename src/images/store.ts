/**
 * The image store: immutable images, each a folder named by its SHA-256 address with the files kernel, disk,
 * perhaps initrd, and manifest.json. An image appears and disappears by one rename, so a killed process leaves no half image:
 * what it was working on has a name that begins with a dot and is removed at the next start.
 */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { AppError } from '../contracts/errors.ts';
import { syncFolder } from '../storage/durable.ts';
import { fileError } from '../storage/errors.ts';
import { convertDisk } from '../storage/convert.ts';
import { detectFormat } from '../storage/open-source.ts';
import { type CopyOptions, copyDisk } from '../storage/restore.ts';
import { takeBootFiles } from './boot-files.ts';
import { checkAppend, checkName, checkPart } from './checks.ts';
import { hashFile } from './hash.ts';
import {
  type ImageManifest,
  type ImagePart,
  imageId,
  MANIFEST_FILE,
  type PartName,
  PART_NAMES,
  parseManifest,
} from './manifest.ts';

/** An image with the absolute paths of its files. */
export interface Image extends ImageManifest {
  readonly kernel: string;
  readonly initrd?: string | undefined;
  /** The backing file for COW disks: only ever opened for reading. */
  readonly disk: string;
}

export interface ImageSources {
  /** Undefined: kernel, initrd and command line are taken out of the disk, as cloud images have them. */
  readonly kernel?: string | undefined;
  readonly initrd?: string | undefined;
  /** A raw disk, or a qcow2 file with its backing files beside it; stored raw. */
  readonly disk: string;
  readonly name: string;
  /** Default kernel command line; none when undefined, or what the disk's boot loader gives. */
  readonly append?: string | undefined;
}

export interface ImportOptions {
  /** `fraction` of the whole import, 0 to 1. */
  readonly onProgress?: ((fraction: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

const DRAFT_PREFIX = '.draft-';

export class ImageStore {
  readonly dir: string;

  /** Makes the folder when it is missing and removes what killed processes left in it. */
  constructor(dir: string) {
    this.dir = path.resolve(dir);
    fs.mkdirSync(this.dir, { recursive: true, mode: 0o755 });
    this.#removeStaleDrafts();
  }

  /**
   * Copies the files into the store. Content that is there already is not stored twice: the image that has it is
   * returned, under its first name. AppErrors: `not_found`, `bad_kernel`, `bad_image`, `invalid_input`, `disk_full`,
   * `io_error`, `canceled`, with the field at fault.
   */
  async import(sources: ImageSources, options: ImportOptions = {}): Promise<Image> {
    const { name, append } = sources;
    checkName(name);
    if (append !== undefined) checkAppend(append);
    for (const [part, file] of filesOf(sources)) checkPart(part, file);
    const draft = this.draftFolder();
    const taken = this.draftFolder();
    try {
      if (sources.kernel !== undefined) {
        const parts = await storeParts(filesOf(sources), draft, options);
        return this.#publish(draft, name, append ?? '', parts);
      }
      // Into the store first: what is looked at is raw then, and nobody else's to change.
      const share = (from: number, to: number): ImportOptions => partOf(options, from, to);
      const disk = await storeParts([['disk', sources.disk]], draft, share(0, 0.9));
      const boot = await takeBootFiles(path.join(draft, 'disk'), taken, options.signal);
      const kernel = filesOf({ kernel: boot.kernel, initrd: sources.initrd ?? boot.initrd });
      for (const [part, file] of kernel) checkPart(part, file);
      const rest = await storeParts(kernel, draft, share(0.9, 1));
      return this.#publish(draft, name, append ?? boot.append, { ...disk, ...rest });
    } catch (error) {
      fs.rmSync(draft, { recursive: true, force: true });
      throw fileError(error, 'image', `cannot store image ${name}`);
    } finally {
      fs.rmSync(taken, { recursive: true, force: true });
    }
  }

  /** All images that can be read, oldest first. A damaged manifest hides its image here and is told by `get`. */
  list(): Image[] {
    const ids = fs.readdirSync(this.dir).filter((name) => /^[0-9a-f]{64}$/.test(name));
    const images = ids.flatMap((id) => {
      try {
        return [this.get(id)];
      } catch (error) {
        if (error instanceof AppError) return [];
        throw error;
      }
    });
    return images.sort((a, b) => a.createdAt.localeCompare(b.createdAt) || a.id.localeCompare(b.id));
  }

  /** AppErrors: `not_found`, `image_corrupt`. */
  get(id: string): Image {
    const folder = path.join(this.dir, id);
    let text: string;
    try {
      // Checked first: an id is a user's input and becomes part of a path.
      if (!/^[0-9a-f]{64}$/.test(id)) throw new Error('not an image id');
      text = fs.readFileSync(path.join(folder, MANIFEST_FILE), 'utf8');
    } catch (error) {
      throw new AppError('not_found', `there is no image ${id.slice(0, 80)}`, {
        field: 'image',
        remedy: 'list the images to see their ids',
        cause: error,
      });
    }
    return withPaths(folder, parseManifest(text, id));
  }

  /**
   * The image for starting a machine: checks that every part has its recorded size and modification time. When only
   * the time differs (the store was copied without times) the content is hashed, and the time put right, because
   * COW files check it too. AppErrors: `not_found`, `image_truncated`, `image_corrupt`.
   */
  async use(id: string): Promise<Image> {
    const image = this.get(id);
    for (const [part, file, recorded] of partsOf(image)) {
      const stat = statPart(image, part, file);
      checkSize(image, part, stat.size, recorded);
      if (Math.floor(stat.mtimeMs / 1000) !== recorded.mtimeSeconds) {
        await checkHash(image, part, file, recorded);
        fs.utimesSync(file, recorded.mtimeSeconds, recorded.mtimeSeconds);
      }
    }
    return image;
  }

  /** Hashes every part again. AppErrors: `not_found`, `image_truncated`, `image_corrupt`, `canceled`. */
  async verify(id: string, signal?: AbortSignal): Promise<void> {
    const image = this.get(id);
    for (const [part, file, recorded] of partsOf(image)) {
      checkSize(image, part, statPart(image, part, file).size, recorded);
      await checkHash(image, part, file, recorded, signal);
    }
  }

  /** Removes an image, also a damaged one, unless `dependents` (names of disks over it) has any: `in_use`. `not_found`. */
  remove(id: string, dependents: readonly string[]): void {
    const folder = path.join(this.dir, id);
    if (!/^[0-9a-f]{64}$/.test(id) || !fs.existsSync(folder)) this.get(id);
    if (dependents.length > 0) {
      const some = dependents.slice(0, 3).join(', ') + (dependents.length > 3 ? ', …' : '');
      throw new AppError('in_use', `image ${id} is the base of ${dependents.length} disks: ${some}`, {
        field: 'image',
        remedy: 'delete those machines and disks first',
      });
    }
    const draft = this.#draftName();
    fs.renameSync(folder, draft);
    syncFolder(this.dir);
    fs.rmSync(draft, { recursive: true, force: true });
  }

  #publish(draft: string, name: string, append: string, parts: StoredParts): Image {
    const { kernel, disk, initrd } = parts;
    // INVARIANT: `import` stores the kernel and the disk of every image.
    const content = {
      append,
      parts: { kernel: kernel!, disk: disk!, ...(initrd && { initrd }) },
    };
    const id = imageId(content);
    const folder = path.join(this.dir, id);
    if (fs.existsSync(folder)) {
      fs.rmSync(draft, { recursive: true, force: true });
      return this.get(id);
    }
    const manifest: ImageManifest = {
      format: 1,
      id,
      name,
      createdAt: new Date().toISOString(),
      ...content,
    };
    fs.writeFileSync(path.join(draft, MANIFEST_FILE), `${JSON.stringify(manifest, null, 2)}\n`, {
      mode: 0o444,
      flush: true,
    });
    syncFolder(draft);
    fs.renameSync(draft, folder);
    syncFolder(this.dir);
    return withPaths(folder, manifest);
  }

  #draftName(): string {
    return path.join(this.dir, `${DRAFT_PREFIX}${process.pid}-${randomBytes(6).toString('hex')}`);
  }

  /** A new empty folder on the store's file system; the caller removes it, or the next start after a kill does. */
  draftFolder(): string {
    const draft = this.#draftName();
    fs.mkdirSync(draft, { mode: 0o755 });
    return draft;
  }

  #removeStaleDrafts(): void {
    for (const name of fs.readdirSync(this.dir)) {
      if (!name.startsWith(DRAFT_PREFIX)) continue;
      const pid = Number.parseInt(name.slice(DRAFT_PREFIX.length), 10);
      if (pid !== process.pid && !isAlive(pid))
        fs.rmSync(path.join(this.dir, name), { recursive: true, force: true });
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    return Number.isInteger(pid) && pid > 0 && process.kill(pid, 0);
  } catch (error) {
    // EPERM: it lives and is another user's.
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

function withPaths(folder: string, manifest: ImageManifest): Image {
  return {
    ...manifest,
    kernel: path.join(folder, 'kernel'),
    initrd: manifest.parts.initrd === undefined ? undefined : path.join(folder, 'initrd'),
    disk: path.join(folder, 'disk'),
  };
}

function partsOf(image: Image): (readonly [PartName, string, ImagePart])[] {
  return PART_NAMES.flatMap((part) => {
    const recorded = image.parts[part];
    const file = image[part];
    return recorded === undefined || file === undefined ? [] : [[part, file, recorded] as const];
  });
}

type StoredParts = Partial<Record<PartName, ImagePart>>;
type PartFile = readonly [part: PartName, file: string];

function filesOf(sources: Partial<Pick<ImageSources, PartName>>): PartFile[] {
  return PART_NAMES.flatMap((part) => {
    const { [part]: file } = sources;
    return file === undefined ? [] : [[part, file] as const];
  });
}

/** Progress of a part of the work, `from` … `to` of the whole. */
function partOf({ onProgress, signal }: ImportOptions, from: number, to: number): ImportOptions {
  return { onProgress: (fraction) => onProgress?.(from + fraction * (to - from)), signal };
}

async function storeParts(
  files: readonly PartFile[],
  folder: string,
  { onProgress, signal }: ImportOptions,
): Promise<StoredParts> {
  const parts: StoredParts = {};
  const sizes = files.map(([, file]) => fs.statSync(file).size);
  const totalBytes = sizes.reduce((sum, size) => sum + size, 0);
  let doneBytes = 0;
  for (const [index, [part, file]] of files.entries()) {
    const before = doneBytes;
    const size = sizes[index]!;
    const progress = (share: number): void => onProgress?.((before + share * size) / totalBytes);
    parts[part] = await storePart(part, file, path.join(folder, part), progress, signal);
    doneBytes += size;
  }
  return parts;
}

/** `onProgress` is told the share that is done. */
async function storePart(
  part: PartName,
  from: string,
  to: string,
  onProgress: (share: number) => void,
  signal: AbortSignal | undefined,
): Promise<ImagePart> {
  // Copying and hashing count half each.
  const copyProgress = (done: number, total: number): void => onProgress(done / total / 2);
  await copyPart(part, from, to, { onProgress: copyProgress, signal });
  const copiedBytes = fs.statSync(to).size;
  const { sizeBytes, sha256 } = await hashFile(to, {
    onProgress: (done) => onProgress((1 + done / copiedBytes) / 2),
    signal,
  });
  fs.chmodSync(to, 0o444);
  const mtimeSeconds = Math.floor(Date.now() / 1000);
  fs.utimesSync(to, mtimeSeconds, mtimeSeconds);
  // The source may have been cut while it was copied; then what we have is what was hashed, but of no use.
  if (sizeBytes === 0) {
    throw new AppError('bad_image', `${from} became empty while it was copied`, {
      field: part,
      remedy: 'import it again',
    });
  }
  return { sizeBytes, sha256, mtimeSeconds };
}

async function copyPart(part: PartName, from: string, to: string, options: CopyOptions): Promise<void> {
  if (part !== 'disk') return copyDisk(from, to, options);
  try {
    if (detectFormat(from) !== 'qcow2') return await copyDisk(from, to, options);
    await convertDisk(from, to, { ...options, format: 'qcow2' });
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    // Its field may be one of the file's header; the user's is the disk.
    const { code, remedy } = error;
    throw new AppError(code, `${from}: ${error.message}`, { field: part, remedy, cause: error });
  }
}

function statPart(image: Image, part: PartName, file: string): fs.Stats {
  const stat = fs.statSync(file, { throwIfNoEntry: false });
  if (stat !== undefined) return stat;
  throw new AppError('image_corrupt', `the ${part} of image ${image.name} (${image.id}) is missing`, {
    field: part,
    remedy: 'remove the image and import or build it again',
  });
}

function checkSize(image: Image, part: PartName, sizeBytes: number, recorded: ImagePart): void {
  if (sizeBytes === recorded.sizeBytes) return;
  const shorter = sizeBytes < recorded.sizeBytes;
  throw new AppError(
    shorter ? 'image_truncated' : 'image_corrupt',
    `the ${part} of image ${image.name} (${image.id}) has ${sizeBytes} bytes and must have ${recorded.sizeBytes}`,
    { field: part, remedy: 'restore the file, or remove the image and import or build it again' },
  );
}

async function checkHash(
  image: Image,
  part: PartName,
  file: string,
  recorded: ImagePart,
  signal?: AbortSignal,
): Promise<void> {
  const { sha256 } = await hashFile(file, { signal });
  if (sha256 === recorded.sha256) return;
  throw new AppError(
    'image_corrupt',
    `the ${part} of image ${image.name} (${image.id}) has been changed: its SHA-256 is ${sha256}`,
    {
      field: part,
      remedy: 'restore the file, or remove the image and import or build it again',
    },
  );
}
