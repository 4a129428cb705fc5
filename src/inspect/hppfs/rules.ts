/** Which files of a guest's /proc are not the kernel's own. */

/**
 * What a guest reads, or why it cannot: an Error becomes EIO.
 * @param kernels what its kernel has in the file; to be asked within the call
 */
export type ProcContent = (kernels: () => Uint8Array) => Uint8Array | Promise<Uint8Array>;

export interface ProcRule {
  /** Below /proc. A first part `pid` stands for every process, as in UML; `comm:NAME` for those that run a program of that name. */
  readonly path: string;
  /** Undefined: there is no such file. */
  readonly content: ProcContent | undefined;
}

/** What /proc has links to, by way of `self`. */
const LINKED = ['mounts', 'net'];
const NUMBER = /^[1-9]\d*$/;
const COMMAND = 'comm:';
/** Of a name, the kernel keeps so much. */
const COMMAND_LENGTH = COMMAND.length + 15;

/** The name of the program that a process runs. */
export type CommandOf = (pid: number) => string | undefined;

export class ProcRules {
  readonly #rules: ReadonlyMap<string, ProcRule>;
  readonly hasHidden: boolean;
  readonly hasContents: boolean;
  readonly #hasCommands: boolean;
  /** Last parts of all paths. */
  readonly #lastNames: ReadonlySet<string>;
  /** Processes themselves may be meant. */
  readonly #meansProcesses: boolean;

  constructor(rules: readonly ProcRule[]) {
    this.#rules = new Map(rules.map((rule) => [asKept(rule.path), rule]));
    this.#hasCommands = rules.some(({ path }) => path.startsWith(COMMAND));
    const paths = [...this.#rules.keys()];
    this.#lastNames = new Set(paths.map((path) => path.slice(path.lastIndexOf('/') + 1)));
    this.#meansProcesses = paths.some(
      (path) => path === 'pid' || (path.startsWith(COMMAND) && !path.includes('/')),
    );
    this.hasHidden = rules.some(({ content }) => content === undefined);
    this.hasContents = rules.some(({ content }) => content !== undefined);
  }

  /** May there be a rule for a path that ends in this name? Most that are asked for end here. */
  mayConcern(lastName: string): boolean {
    return this.#lastNames.has(lastName) || (this.#meansProcesses && NUMBER.test(lastName));
  }

  /** @param path below the root of a /proc, without links: /proc/net/dev is 123/net/dev */
  find(path: string, commandOf: CommandOf): ProcRule | undefined {
    for (const name of namesOf(path, this.#hasCommands ? commandOf : undefined)) {
      const rule = this.#rules.get(name);
      if (rule !== undefined) return rule;
    }
    return undefined;
  }

  hides(path: string, commandOf: CommandOf): boolean {
    const rule = this.find(path, commandOf);
    return rule !== undefined && rule.content === undefined;
  }
}

/** What a rule may call a file, the most exact first. */
function namesOf(path: string, commandOf: CommandOf | undefined): string[] {
  const [first = '', ...rest] = path.split('/');
  if (!NUMBER.test(first)) return [path];
  const names = [path];
  const isThread = rest[0] === 'task' && rest[1] !== undefined;
  const own = isThread ? rest.slice(2) : rest;
  if (isThread && own.length === 0) return names;
  if (isThread) names.push([first, ...own].join('/'));
  const command = commandOf?.(Number(first));
  if (command !== undefined) names.push([`${COMMAND}${command}`, ...own].join('/'));
  names.push(['pid', ...own].join('/'));
  if (LINKED.includes(own[0] ?? '')) names.push(own.join('/'));
  return names;
}

/** A rule's path with the program's name as the kernel keeps it. */
function asKept(path: string): string {
  const [first = '', ...rest] = path.split('/');
  return first.startsWith(COMMAND) ? [first.slice(0, COMMAND_LENGTH), ...rest].join('/') : path;
}
