/** What a command works with: the client, and printing in the form that was asked for. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import type { Operation } from '../contracts/api/index.ts';
import { AppError, systemErrorCode } from '../contracts/errors.ts';
import { Client } from './client.ts';
import { DEFAULT_URL, defaultHome } from './home.ts';
import type { Io } from './io.ts';
import { followOperation } from './progress.ts';

export interface GlobalOptions {
  readonly url?: string;
  readonly tokenFile?: string;
  readonly json?: boolean;
}

export class CommandContext {
  readonly io: Io;
  readonly json: boolean;
  readonly client: Client;

  constructor(command: Command, io: Io) {
    const options = command.optsWithGlobals<GlobalOptions>();
    this.io = io;
    this.json = options.json === true;
    this.client = new Client({
      url: options.url ?? (io.env.UMLAUT_URL || DEFAULT_URL),
      token: readToken(options, io),
    });
  }

  /** `value` as JSON, or what `human` makes of it. */
  print<T>(value: T, human: (value: T) => string): void {
    this.io.stdout.write(this.json ? `${JSON.stringify(value, null, 2)}\n` : human(value));
  }

  /** Waits for its end, unless `wait` is false. */
  async finish(started: Operation, wait: boolean): Promise<Operation> {
    return wait ? await followOperation(this.client, started, this.io.stderr) : started;
  }
}

function readToken({ tokenFile }: GlobalOptions, { env }: Io): string {
  if (tokenFile === undefined && env.UMLAUT_TOKEN) return env.UMLAUT_TOKEN;
  const file = tokenFile ?? join(defaultHome(env), 'admin-token');
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (cause) {
    const code = systemErrorCode(cause);
    const missing = code === 'ENOENT' ? 'does not exist' : `cannot be read (${code})`;
    throw new AppError('unauthenticated', `the token file ${file} ${missing}`, {
      field: '--token-file',
      remedy:
        'Name the admin-token file in the state folder of the daemon, or set UMLAUT_HOME or UMLAUT_TOKEN.',
      cause,
    });
  }
}
