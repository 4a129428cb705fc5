/** `umlaut daemon` */
import type { Command } from 'commander';
import { AppError } from '../../contracts/errors.ts';
import { defaultHome, defaultUmlDir } from '../home.ts';
import type { Io } from '../io.ts';
import { collect, parseBytes, parseTcpPort } from '../parse.ts';

interface DaemonCommandOptions {
  readonly home?: string;
  readonly host?: string;
  readonly port?: number;
  readonly redis?: string;
  readonly allowPath?: string[];
  readonly natAllow?: string[];
  readonly memoryLimit?: number;
  readonly umlDir?: string;
  readonly umlNotify?: string;
}

export function registerDaemon(program: Command, io: Io): void {
  const { env } = io;
  program
    .command('daemon')
    .option('--home <folder>', 'state folder (default: UMLAUT_HOME)')
    .option('--host <address>', 'address to listen on (default: UMLAUT_HOST, else 127.0.0.1)')
    .option('--port <port>', 'port; 0 takes a free one (default: UMLAUT_PORT, else 8470)', parseTcpPort)
    .option('--redis <url>', 'run jobs on this Redis (default: UMLAUT_REDIS, else within the daemon)')
    .option('--allow-path <folder>', 'files below it may be imported; may be repeated', collect)
    .option(
      '--nat-allow <network>',
      'guests behind NAT may reach it too: a CIDR, private, or host for the loopback; may be repeated',
      collect,
    )
    .option('--memory-limit <size>', 'of all guests together (default: what the host can give)', parseBytes)
    .option('--uml-dir <folder>', 'UML folder, with UMID/mconsole (default: UMLAUT_UML_DIR, else ~/.uml)')
    .option(
      '--uml-notify <socket>',
      "send UML's notifications there (default: UMLAUT_UML_NOTIFY, else nowhere)",
    )
    .description('run the daemon in the foreground; SIGTERM or Ctrl-C ends it')
    .action(async (options: DaemonCommandOptions) => {
      // Loaded here: no other command needs the daemon's parts.
      const { startDaemon } = await import('../../main.ts');
      const daemon = await startDaemon({
        home: options.home ?? defaultHome(env),
        host: options.host ?? (env.UMLAUT_HOST || undefined),
        port: options.port ?? portOf(env),
        redisUrl: options.redis ?? (env.UMLAUT_REDIS || undefined),
        allowPaths: options.allowPath,
        natAllow: options.natAllow,
        memoryLimitBytes: options.memoryLimit,
        umlNotify: options.umlNotify ?? (env.UMLAUT_UML_NOTIFY || undefined),
        umlDir: options.umlDir ?? defaultUmlDir(env),
      });
      io.stderr.write(`listening on ${daemon.url}\n`);
      await stopSignal();
      await daemon.close();
    });
}

/** `UMLAUT_PORT`, if it is set. @throws AppError `invalid_input` */
export function portOf(env: Io['env']): number | undefined {
  if (!env.UMLAUT_PORT) return undefined;
  const port = /^\d{1,5}$/.test(env.UMLAUT_PORT) ? Number(env.UMLAUT_PORT) : Number.NaN;
  if (port <= 0xffff) return port;
  throw new AppError('invalid_input', `UMLAUT_PORT is "${env.UMLAUT_PORT}"`, {
    field: 'UMLAUT_PORT',
    remedy: 'Set it to a port from 0 to 65535.',
  });
}

/** Resolves at the first SIGINT or SIGTERM; a second one ends the process at once. */
function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    process.once('SIGINT', () => resolve());
    process.once('SIGTERM', () => resolve());
  });
}
