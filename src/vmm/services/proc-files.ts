/** Files of guests' /proc that are the host's: which VM has which, and who may say so. */
import { type ProcFile, ProcFileList, type ProcSource } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { ProcFileConfig } from '../../contracts/machine.ts';
import type { VmRow } from '../../db/index.ts';
import { readHppfs } from '../../uml/hppfs.ts';
import type { Principal } from '../access.ts';
import type { HostPaths } from '../host-paths.ts';

export function procFilesOf(vm: VmRow): ProcFile[] {
  // INVARIANT: rows are written from checked input alone.
  return JSON.parse(vm.proc_files) as ProcFile[];
}

export class ProcFiles {
  readonly #hostPaths: HostPaths;

  constructor(hostPaths: HostPaths) {
    this.#hostPaths = hostPaths;
  }

  /** With real paths. AppErrors: `forbidden` for what reaches into the host, but for an operator's allowed paths; `not_found`, `unreachable`. */
  checked(who: Principal, files: readonly ProcFile[]): Promise<ProcFile[]> {
    return Promise.all(
      files.map(async ({ path, source }, index) => {
        const field = `proc_files[${index}].source`;
        const own = source.kind === 'hidden' || source.kind === 'text';
        if (!own) requireOperator(who, field);
        return { path, source: await this.#allowed(source, field) };
      }),
    );
  }

  /** What a folder of the host says that is as UML's hppfs has it. AppErrors as `checked`; `quota_exceeded`. */
  async ofFolder(who: Principal, folder: string): Promise<ProcFile[]> {
    requireOperator(who, 'hppfs');
    return ProcFileList.parse(readHppfs(await this.#hostPaths.check(folder, 'hppfs')));
  }

  /** For a run: as they are allowed now. AppErrors as `checked`. */
  configs(vm: VmRow): Promise<ProcFileConfig[]> {
    return Promise.all(
      procFilesOf(vm).map(async ({ path, source }) => ({
        path,
        source: await this.#allowed(source, `proc_files of ${path}`),
      })),
    );
  }

  async #allowed(source: ProcSource, field: string): Promise<ProcSource> {
    if (source.kind === 'file' || source.kind === 'socket') {
      return { ...source, path: await this.#hostPaths.check(source.path, `${field}.path`) };
    }
    if (source.kind !== 'command') return source;
    const [program = '', ...args] = source.command;
    return { ...source, command: [await this.#hostPaths.check(program, `${field}.command[0]`), ...args] };
  }
}

function requireOperator(who: Principal, field: string): void {
  if (who.role === 'admin') return;
  throw new AppError('forbidden', 'only an operator has guests read what the host has', {
    field,
    remedy: 'give the content itself, as text',
  });
}
