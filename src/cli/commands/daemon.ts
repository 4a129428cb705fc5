/** `umlaut daemon` */
import type { Command } from 'commander';
import { defaultHome } from '../home.ts';
import type { Io } from '../io.ts';
import { collect, parseTcpPort } from '../parse.ts';

interface DaemonCommandOptions {
  readonly home?: string;
  readonly host: string;
  readonly port: number;
  readonly redis?: string;
  readonly allowPath?: string[];
}

export const DEFAULT_HOST = '127.0.0.1';
export const DEFAULT_PORT = 8470;

export function registerDaemon(program: Command, io: Io): void {
  program
    .command('daemon')
    .option('--home <folder>', 'state folder (default: UMLAUT_HOME)')
    .option('--host <address>', 'address to listen on', DEFAULT_HOST)
    .option('--port <port>', 'port to listen on; 0 takes a free one', parseTcpPort, DEFAULT_PORT)
    .option('--redis <url>', 'run jobs on this Redis (default: UMLAUT_REDIS, else within the daemon)')
    .option('--allow-path <folder>', 'files below it may be imported; may be repeated', collect)
    .description('run the daemon in the foreground; SIGTERM or Ctrl-C ends it')
    .action(async (options: DaemonCommandOptions) => {
      // Loaded here: no other command needs the daemon's parts.
      const { startDaemon } = await import('../../main.ts');
      const daemon = await startDaemon({
        home: options.home ?? defaultHome(io.env),
        host: options.host,
        port: options.port,
        redisUrl: options.redis ?? (io.env.UMLAUT_REDIS || undefined),
        allowPaths: options.allowPath ?? [],
      });
      io.stderr.write(`listening on ${daemon.url}\n`);
      await stopSignal();
      await daemon.close();
    });
}

/** Resolves at the first SIGINT or SIGTERM; a second one ends the process at once. */
function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    process.once('SIGINT', () => resolve());
    process.once('SIGTERM', () => resolve());
  });
}
