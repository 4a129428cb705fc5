/**
 * Files that are not there: names of procfs are looked up, and those already known looked at again, by functions of procfs; each
 * answers ENOENT for a hidden one. Listings are made entry by entry (struct dir_context, include/linux/fs.h).
 */
import type { LinuxKernel, SymbolName } from '../kernel.ts';
import { commandIn } from '../tasks.ts';
import type { KernelPoint } from '../kernel-points.ts';
import type { GuestCalls, Moved } from './guest-calls.ts';
import { lastNameOf, nameText, type ProcName, procName, procNameOfFile } from './names.ts';
import type { ProcRules } from './rules.ts';

/** struct dentry *lookup(struct inode *, struct dentry *, unsigned flags) */
const LOOKUPS = [
  'proc_root_lookup',
  'proc_lookup',
  'proc_tgid_base_lookup',
  'proc_tid_base_lookup',
  'proc_task_lookup',
  'proc_lookupfd',
  'proc_lookupfdinfo',
  'proc_ns_dir_lookup',
  'proc_attr_dir_lookup',
  'proc_map_files_lookup',
  'proc_sys_lookup',
  'proc_tgid_net_lookup',
] as const satisfies readonly SymbolName[];
/** int d_revalidate(struct dentry *, unsigned flags) */
const REVALIDATES = [
  'proc_misc_d_revalidate',
  'proc_net_d_revalidate',
  'proc_sys_revalidate',
  'pid_revalidate',
  'tid_fd_revalidate',
  'map_files_d_revalidate',
] as const satisfies readonly SymbolName[];
/** bool actor(struct dir_context *, const char *name, int length, …) */
const ACTORS = [
  'filldir64',
  'filldir',
  'fillonedir',
  'compat_filldir',
  'compat_fillonedir',
] as const satisfies readonly SymbolName[];

const ENOENT = -2n;
/** Since 6.1 an actor answers true for "go on", before that 0. */
const ACTORS_ARE_BOOLEAN = [6, 1] as const;
/** Since 6.14 d_revalidate is told the folder and the name first. */
const REVALIDATE_HAS_PARENT = [6, 14] as const;
const LISTINGS_MAX = 4096;

export class ProcHiding {
  readonly #kernel: LinuxKernel;
  readonly #calls: GuestCalls;
  readonly #rules: ProcRules;
  /** Folders of procfs that are being listed, by their dir_context. */
  readonly #listings = new Map<bigint, ProcName>();

  constructor(kernel: LinuxKernel, calls: GuestCalls, rules: ProcRules) {
    this.#kernel = kernel;
    this.#calls = calls;
    this.#rules = rules;
  }

  points(): KernelPoint[] {
    const kernel = this.#kernel;
    const at = (names: readonly SymbolName[], reached: () => boolean): KernelPoint[] =>
      names.filter((name) => kernel.has(name)).map((name) => ({ address: kernel.symbol(name), reached }));
    const goOn = kernel.isAtLeast(...ACTORS_ARE_BOOLEAN) ? 1n : 0n;
    const dentryAt = kernel.isAtLeast(...REVALIDATE_HAS_PARENT) ? 2 : 0;
    return [
      ...at(LOOKUPS, () => this.#refuse(1)),
      ...at(REVALIDATES, () => this.#refuse(dentryAt)),
      ...at(['iterate_dir'], () => this.#list()),
      ...at(ACTORS, () => this.#skip(goOn)),
    ];
  }

  #refuse(argument: 0 | 1 | 2): Moved {
    const dentry = this.#calls.argument(argument);
    if (!this.#rules.mayConcern(lastNameOf(this.#kernel, dentry))) return false;
    const name = procName(this.#kernel, dentry);
    return name !== undefined && this.#hides(name) ? this.#calls.return(ENOENT) : false;
  }

  /** int iterate_dir(struct file *, struct dir_context *) */
  #list(): Moved {
    const context = this.#calls.argument(1);
    const folder = procNameOfFile(this.#kernel, this.#calls.argument(0));
    this.#listings.delete(context);
    if (folder === undefined) return false;
    this.#listings.set(context, folder);
    if (this.#listings.size > LISTINGS_MAX) this.#listings.delete(this.#listings.keys().next().value!);
    return false;
  }

  #skip(goOn: bigint): Moved {
    if (this.#listings.size === 0) return false;
    const folder = this.#listings.get(this.#calls.argument(0));
    if (folder === undefined) return false;
    const length = Number(this.#calls.argument(2) & 0xffn);
    const entry = nameText(this.#kernel, this.#calls.argument(1), length);
    if (!this.#rules.mayConcern(entry)) return false;
    const path = folder.path === '' ? entry : `${folder.path}/${entry}`;
    return this.#hides({ ...folder, path }) ? this.#calls.return(goOn) : false;
  }

  #hides({ path, namespace }: ProcName): boolean {
    return this.#rules.hides(path, commandIn(this.#kernel, namespace));
  }
}
