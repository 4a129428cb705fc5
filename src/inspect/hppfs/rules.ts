/** Which files of a guest's /proc are not the kernel's own. */

/** What a guest reads, or why it cannot: an Error becomes EIO. */
export type ProcContent = () => Uint8Array | Promise<Uint8Array>;

export interface ProcRule {
  /** Below /proc. A first part `pid` stands for every process, as in UML. */
  readonly path: string;
  /** Undefined: there is no such file. */
  readonly content: ProcContent | undefined;
}

/** What /proc has links to, by way of `self`. */
const LINKED = ['mounts', 'net'];
const NUMBER = /^[1-9]\d*$/;

export class ProcRules {
  readonly #rules: ReadonlyMap<string, ProcRule>;
  readonly hasHidden: boolean;
  readonly hasContents: boolean;

  constructor(rules: readonly ProcRule[]) {
    this.#rules = new Map(rules.map((rule) => [rule.path, rule]));
    this.hasHidden = rules.some(({ content }) => content === undefined);
    this.hasContents = rules.some(({ content }) => content !== undefined);
  }

  /** @param path below the root of a /proc, without links: /proc/net/dev is 123/net/dev */
  find(path: string): ProcRule | undefined {
    for (const name of namesOf(path)) {
      const rule = this.#rules.get(name);
      if (rule !== undefined) return rule;
    }
    return undefined;
  }

  hides(path: string): boolean {
    const rule = this.find(path);
    return rule !== undefined && rule.content === undefined;
  }
}

/** What a rule may call a file, the most exact first. */
function namesOf(path: string): string[] {
  const [first = '', ...rest] = path.split('/');
  if (!NUMBER.test(first)) return [path];
  const names = [path];
  const isThread = rest[0] === 'task' && rest[1] !== undefined;
  const own = isThread ? rest.slice(2) : rest;
  if (isThread && own.length === 0) return names;
  if (isThread) names.push([first, ...own].join('/'));
  names.push(['pid', ...own].join('/'));
  if (LINKED.includes(own[0] ?? '')) names.push(own.join('/'));
  return names;
}
