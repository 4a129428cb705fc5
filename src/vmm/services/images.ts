/** Images: what the database knows of them, and the files in the image library. */
import type {
  Image,
  ImageBuild,
  ImageFile,
  ImageFileRole,
  ImageImport,
  Operation,
  Page,
} from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Jobs } from '../../contracts/jobs.ts';
import type { ImageRow, Store } from '../../db/index.ts';
import { iso, notFound, type Principal, pageOfRows } from '../access.ts';
import type { EventLog } from '../events.ts';
import type { HostPaths } from '../host-paths.ts';
import { newId } from '../ids.ts';
import type { Operations } from '../operations.ts';
import type { ImageLibrary, ImageProgress, StoredImage } from '../ports.ts';

export interface ImageDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly operations: Operations;
  readonly library: ImageLibrary;
  readonly hostPaths: HostPaths;
}

export class Images {
  readonly #deps: ImageDeps;

  constructor(deps: ImageDeps) {
    this.#deps = deps;
  }

  list(query: { limit: number; cursor?: string | undefined; name?: string | undefined }): Page<Image> {
    const read = (after: number, limit: number): ImageRow[] =>
      this.#deps.store.images.page({ after, limit }, query.name);
    return pageOfRows(query, read, (rows) => rows.map(imageView));
  }

  get(ref: string): Image {
    return imageView(this.find(ref));
  }

  find(ref: string, field?: string): ImageRow {
    const { images } = this.#deps.store;
    const row = images.get(ref) ?? images.byName(ref);
    if (row === undefined) throw notFound('image', ref, field);
    return row;
  }

  /** A file of an image, for download. `not_found`. */
  file(
    ref: string,
    role: ImageFileRole,
  ): { readonly file: string; readonly name: string; readonly sha256: string } {
    const { id, name } = this.find(ref);
    const image = this.#deps.library.get(id);
    const file = image[role];
    const entry = image.files.find((one) => one.role === role);
    if (file === undefined || entry === undefined) {
      throw new AppError('not_found', `the image has no ${role}`, { field: 'role' });
    }
    return { file, name: `${name ?? id}.${role === 'disk' ? 'img' : role}`, sha256: entry.sha256 };
  }

  build({ name, kernel }: ImageBuild, who: Principal): Promise<Operation> {
    return this.#deps.operations.enqueue(
      { kind: 'image.build', tenant: who.tenant, resources: [], mayCancel: true },
      'image.build',
      (operationId) => ({ operationId, name, kernel }),
      { maxAttempts: 3 },
    );
  }

  /** Host paths must be under a folder that the operator allows. `forbidden`, `not_found`, `unreachable`. */
  async import(body: ImageImport, who: Principal): Promise<Operation> {
    for (const field of ['kernel', 'initrd', 'disk'] as const) {
      const file = body[field];
      if (file !== undefined) await this.#deps.hostPaths.check(file, field);
    }
    return await this.importFile(body, who);
  }

  /** Of paths that need no permission. */
  importFile(body: ImageImport, who: Principal): Promise<Operation> {
    return this.#deps.operations.enqueue(
      { kind: 'image.import', tenant: who.tenant, resources: [], mayCancel: true },
      'image.import',
      (operationId) => ({ operationId, ...body }),
      { maxAttempts: 2 },
    );
  }

  verify(ref: string, who: Principal): Promise<Operation> {
    const { id } = this.find(ref);
    return this.#deps.operations.enqueue(
      { kind: 'image.verify', tenant: who.tenant, resources: [{ type: 'image', id }], mayCancel: true },
      'image.verify',
      (operationId) => ({ operationId, imageId: id }),
      { maxAttempts: 2 },
    );
  }

  /** `in_use` while a VM, a disk or a backup needs it. */
  delete(ref: string): void {
    const { store, library, events } = this.#deps;
    store.transaction(() => {
      const { id } = this.find(ref);
      const users = [...store.images.users(id), ...this.#usersOver(id)];
      if (users.length > 0) {
        const some = users.slice(0, 3).join(', ') + (users.length > 3 ? ', …' : '');
        throw new AppError('in_use', `the image is used by ${users.length} resources: ${some}`, {
          field: 'image',
          remedy: 'delete those first',
        });
      }
      store.images.remove(id);
      events.append({ type: 'image.deleted', tenant: null, resource: { type: 'image', id } });
      // Last: if the files cannot be removed the records stay.
      library.remove(id);
    });
  }

  /** Disks and snapshots that need the image's disk. */
  #usersOver(imageId: string): string[] {
    const { layers, disks } = this.#deps.store;
    const base = disks.imageLayer(imageId);
    if (base === undefined) return [];
    const over = layers.over(base.id).map((layer) => layer.id);
    return layers.users(over).map((user) => `${user.type} ${user.name}`);
  }

  processJobs(jobs: Jobs): void {
    const { library, operations } = this.#deps;
    jobs.process('image.build', async ({ operationId, name, kernel }, context) => {
      const image = await library.build({ name, kernel }, percent(context.progress), context.signal);
      operations.addResource(operationId, { type: 'image', id: this.register(image, name) });
    });
    jobs.process('image.import', async (payload, context) => {
      const { operationId, name, kernel, initrd, disk, append } = payload;
      const sources = { name, kernel, initrd, disk, append };
      const image = await library.import(sources, percent(context.progress), context.signal);
      operations.addResource(operationId, { type: 'image', id: this.register(image, name) });
    });
    jobs.process('image.verify', ({ imageId }, context) => library.verify(imageId, context.signal));
  }

  /** At start: images that are in the library and not in the database, as after a crash between the two. */
  adopt(): void {
    for (const image of this.#deps.library.list()) {
      if (this.#deps.store.images.get(image.id) === undefined) this.register(image, image.name);
    }
  }

  /** Writes an image down and gives it the name, which another one may lose. */
  register(image: StoredImage, name: string): string {
    const { store, events } = this.#deps;
    return store.transaction(() => {
      const created_at = Date.now();
      if (store.images.get(image.id) === undefined) {
        store.images.insert({
          id: image.id,
          name: null,
          files: JSON.stringify(image.files),
          append: image.append,
          kernel_release: image.kernelRelease,
          kernel_version: image.kernelVersion,
          created_at,
        });
        const disk = image.files.find((file) => file.role === 'disk');
        store.disks.insertLayer({
          id: newId('layer'),
          kind: 'image',
          parent_id: null,
          origin_id: null,
          image_id: image.id,
          path: '',
          size_bytes: disk?.sizeBytes ?? 0,
          created_at,
        });
        events.append({
          type: 'image.created',
          tenant: null,
          resource: { type: 'image', id: image.id },
          data: { name },
        });
      }
      store.images.moveName(image.id, name);
      return image.id;
    });
  }
}

function percent(
  progress: (value: { done: number; total: number; unit: 'percent'; message: string }) => void,
) {
  return ({ fraction, label }: ImageProgress): void =>
    progress({ done: Math.floor(fraction * 100), total: 100, unit: 'percent', message: label });
}

function imageView(row: ImageRow): Image {
  const files = JSON.parse(row.files) as StoredImage['files'];
  const views: ImageFile[] = files.map(({ role, sha256, sizeBytes }) => ({
    role,
    sha256,
    size_bytes: sizeBytes,
  }));
  return {
    id: row.id,
    name: row.name,
    files: views,
    append: row.append,
    kernel_release: row.kernel_release,
    size_bytes: views.reduce((sum, file) => sum + file.size_bytes, 0),
    in_use_by: row.in_use_by,
    created_at: iso(row.created_at),
  };
}
