/**
 * Debian packages by the host's own apt, without root: `apt-get download` reads the package lists that the host has.
 * Where it has none (containers), or another suite is wanted, lists are fetched into a private state folder.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { AppError } from '../contracts/errors.ts';
import { needTool, runTool } from './tools.ts';

const DEBIAN_KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

export class Apt {
  readonly #folder: string;
  readonly #options: readonly string[];
  readonly #signal: AbortSignal | undefined;

  private constructor(folder: string, options: readonly string[], signal: AbortSignal | undefined) {
    this.#folder = folder;
    this.#options = options;
    this.#signal = signal;
  }

  /**
   * An apt that knows `probe` (a package). Downloads go to `folder`, private state too. `suite`: `bookworm`, `trixie`;
   * the host's own by default. AppErrors: `tool_missing`, `job_failed`, `canceled`.
   */
  static async open(folder: string, probe: string, suite?: string, signal?: AbortSignal): Promise<Apt> {
    const host = new Apt(folder, [], signal);
    if (suite === undefined && (await host.#knows(probe))) return host;
    const options = privateOptions(path.join(folder, 'apt'));
    if (suite !== undefined) options.push(...(await suiteOptions(folder, suite, signal)));
    const own = new Apt(folder, options, signal);
    await own.#run('apt-get', ['-q', 'update']);
    if (await own.#knows(probe)) return own;
    throw new AppError('job_failed', `apt knows no package ${probe}`, {
      field: 'image',
      remedy: "check the host's apt sources: they must have Debian's main section for amd64",
    });
  }

  async #knows(name: string): Promise<boolean> {
    try {
      return /^Filename:/m.test(await this.#show(name));
    } catch (error) {
      // apt-cache ends with status 100 for a package that it does not know.
      if (error instanceof AppError && error.code === 'job_failed') return false;
      throw error;
    }
  }

  #show(name: string): Promise<string> {
    return this.#run('apt-cache', ['show', '--no-all-versions', name]);
  }

  /** The names of the packages that `name` depends on, first alternatives only. */
  async dependencies(name: string): Promise<string[]> {
    const record = await this.#show(name);
    const lines = [...record.matchAll(/^(?:Pre-)?Depends: (.*)$/gm)].map((match) => match[1]!);
    return lines.flatMap((line) => line.split(',')).map((item) => item.trim().split(/[ :|]/)[0]!);
  }

  /** The names of all packages that a system without any would need for these. */
  async closure(names: readonly string[]): Promise<string[]> {
    const nothing = path.join(this.#folder, 'no-status');
    fs.writeFileSync(nothing, '');
    const options = ['-o', `Dir::State::status=${nothing}`, '-o', 'Debug::NoLocking=1'];
    const plan = await this.#run('apt-get', [
      ...options,
      ...['-q', '-y', '-s', '--no-install-recommends', 'install', ...names],
    ]);
    return [...new Set([...plan.matchAll(/^Inst (\S+)/gm)].map((match) => match[1]!))];
  }

  /** Downloads packages and gives the paths of the files, in order. apt checks their signatures and hashes. */
  async download(names: readonly string[], onFraction: (fraction: number) => void): Promise<string[]> {
    const uris = await this.#run('apt-get', ['-q', 'download', '--print-uris', ...names]);
    const files = [...uris.matchAll(/^'[^']+' (\S+) (\d+) /gm)].map((match) => ({
      name: match[1]!,
      bytes: Number(match[2]),
    }));
    const totalBytes = files.reduce((sum, file) => sum + file.bytes, 0);
    // apt-get tells its progress to terminals only: the growing files are looked at instead.
    const watch = setInterval(() => onFraction(Math.min(1, this.#downloadedBytes() / totalBytes)), 250);
    try {
      await this.#run('apt-get', ['-q', 'download', ...names]);
    } finally {
      clearInterval(watch);
    }
    return names.map((name) => this.#fileOf(name));
  }

  #downloadedBytes(): number {
    const sizes = fs
      .readdirSync(this.#folder)
      .map((name) => fs.statSync(path.join(this.#folder, name), { throwIfNoEntry: false }));
    return sizes.reduce((sum, stat) => sum + (stat?.isFile() ? stat.size : 0), 0);
  }

  #fileOf(name: string): string {
    const file = fs
      .readdirSync(this.#folder)
      .find((entry) => entry.startsWith(`${name}_`) && entry.endsWith('.deb'));
    if (file !== undefined) return path.join(this.#folder, file);
    throw new AppError('job_failed', `apt-get downloaded no file for ${name}`, { field: 'image' });
  }

  #run(tool: 'apt-get' | 'apt-cache', args: readonly string[]): Promise<string> {
    return runTool(needTool(tool, 'apt'), [...this.#options, ...args], {
      cwd: this.#folder,
      signal: this.#signal,
    });
  }
}

/** State and cache of one's own; the host's sources and keys. */
function privateOptions(state: string): string[] {
  fs.mkdirSync(path.join(state, 'lists', 'partial'), { recursive: true });
  fs.mkdirSync(path.join(state, 'cache', 'archives', 'partial'), { recursive: true });
  fs.writeFileSync(path.join(state, 'status'), '');
  const options = {
    'Dir::State': state,
    'Dir::State::lists': path.join(state, 'lists'),
    'Dir::State::status': path.join(state, 'status'),
    'Dir::Cache': path.join(state, 'cache'),
    // As root apt would give the downloads to the user _apt, who cannot enter a private folder.
    'APT::Sandbox::User': process.getuid?.() === 0 ? 'root' : '_apt',
    'Acquire::Languages': 'none',
  };
  return Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
}

/** Sources for another suite, from the mirror that the host uses. */
async function suiteOptions(
  folder: string,
  suite: string,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  if (!/^[a-z]{3,20}$/.test(suite)) {
    throw new AppError('invalid_input', `${suite.slice(0, 40)} is not the name of a Debian suite`, {
      field: 'suite',
      remedy: 'use a name like bookworm or trixie',
    });
  }
  const targets = await runTool(
    needTool('apt-get', 'apt'),
    ['indextargets', '--format', '$(REPO_URI) $(ORIGIN)'],
    { signal },
  );
  const uris = [...targets.matchAll(/^(https?:\S+?)\/? /gm)].map((match) => match[1]!);
  const mirror = uris.find((uri) => /\/debian$/.test(uri)) ?? uris[0];
  if (mirror === undefined) {
    throw new AppError('job_failed', 'the host has no apt source to take a mirror from', {
      field: 'suite',
      remedy: "add Debian's mirror to the host's apt sources",
    });
  }
  const list = path.join(folder, 'apt', 'sources.list');
  const signedBy = fs.existsSync(DEBIAN_KEYRING) ? `[signed-by=${DEBIAN_KEYRING}] ` : '';
  fs.writeFileSync(list, `deb ${signedBy}${mirror} ${suite} main\n`);
  return ['-o', `Dir::Etc::sourcelist=${list}`, '-o', 'Dir::Etc::sourceparts=/dev/null'];
}
