/** The composition root: connects the parts to a daemon. Nothing but the entry points imports it. */
import { randomUUID } from 'node:crypto';
import * as fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { CompileService } from './engine/jit/compile-service.ts';
import type { FastifyInstance } from 'fastify';
import { type Logger, pino } from 'pino';
import { buildApi } from './api/index.ts';
import { AppError, systemErrorCode } from './contracts/errors.ts';
import { openDatabase, Store } from './db/index.ts';
import { THREAD_LIMITS } from './engine/v8.ts';
import { KERNEL_VERSION_BYTES, kernelVersion } from './engine/boot/kernel-version.ts';
import { buildDefaultImage, type Image, ImageStore } from './images/index.ts';
import { VmSockets } from './mconsole/socket/vm-sockets.ts';
import { createJobs } from './scheduler/index.ts';
import { natPolicy, startSwitch } from './switchd/index.ts';
import {
  Home,
  type ImageLibrary,
  Manager,
  type MachineFactory,
  type NetworkSwitch,
  type Services,
  type StoredImage,
} from './vmm/index.ts';

export const DEFAULT_HOST = '127.0.0.1';
export const DEFAULT_PORT = 8470;

const ROOT = new URL('../', import.meta.url);
const MIGRATIONS = fileURLToPath(new URL('migrations/', ROOT));
/** Run from source or from the built package. */
const MACHINE_WORKER = new URL(
  `./vmm/machine-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`,
  import.meta.url,
);

export interface DaemonOptions {
  /** State folder; made when missing. */
  readonly home: string;
  /** 127.0.0.1 when missing. */
  readonly host?: string | undefined;
  /** 8470 when missing; 0 takes a free one. */
  readonly port?: number | undefined;
  /** The embedded scheduler when missing. */
  readonly redisUrl?: string | undefined;
  /** Folders of the host whose files the API may name. */
  readonly allowPaths?: readonly string[] | undefined;
  /**
   * Where networks with the uplink `nat` lead besides the Internet: CIDRs, `private` for all private networks, `host` for
   * the host's loopback at the gateway's address.
   */
  readonly natAllow?: readonly string[] | undefined;
  /** Where running VMs have their UMID/mconsole and UMID/pid, as UML; `uml` in the state folder when missing. */
  readonly umlDir?: string | undefined;
  /** A datagram socket that is sent UML's notifications; none when missing. */
  readonly umlNotify?: string | undefined;
  /** All guests together with their overhead; what the host can give when missing. */
  readonly memoryLimitBytes?: number | undefined;
  /** `daemon.log` in the state folder when missing. */
  readonly log?: Logger | undefined;
  /** Tests put in parts of their own. */
  readonly parts?: DaemonParts | undefined;
}

export interface DaemonParts {
  readonly createWorker?: MachineFactory | undefined;
  readonly library?: ImageLibrary | undefined;
  readonly fabric?: NetworkSwitch | undefined;
}

export interface Daemon {
  /** http://host:port */
  readonly url: string;
  readonly app: FastifyInstance;
  readonly services: Services;
  /** Halts the machines with their disks flushed and lets go of the state folder. Does nothing the second time. */
  close(): Promise<void>;
}

/**
 * Starts a daemon. AppErrors: `home_in_use`, `home_unusable`, `database_newer`, `database_corrupt`, `port_in_use`,
 * `unreachable` (Redis), `invalid_input`. After an error nothing of it is left running.
 */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  const undo: (() => Promise<void> | void)[] = [];
  try {
    return await assemble(options, undo);
  } catch (error) {
    for (const step of undo.reverse()) await step();
    throw error;
  }
}

async function assemble(options: DaemonOptions, undo: (() => Promise<void> | void)[]): Promise<Daemon> {
  const { redisUrl, allowPaths = [], parts = {}, memoryLimitBytes } = options;
  const home = new Home(options.home);
  undo.push(() => home.release());
  const log = options.log ?? fileLog(home);
  const store = new Store(openDatabase(home.file('db.sqlite'), MIGRATIONS));
  undo.push(() => store.close());
  const onError = (error: unknown): void => log.error({ err: error }, 'an error in the background');
  const fabric =
    parts.fabric ??
    (await startSwitch({
      onError,
      onRestart: (cause) => log.error({ err: cause }, 'the switch died and was started again'),
      onPortFault: (fault) => log.warn(fault, 'a port'),
    }));
  undo.push(() => fabric.close());
  const prefix = redisUrl === undefined ? undefined : redisPrefix(home);
  const jobs = createJobs({ db: store.db, redisUrl, prefix, onError });
  undo.push(() => jobs.close());
  const library = parts.library ?? imageLibrary(home.file('images'));
  const createWorker = parts.createWorker ?? machineWorker;
  const manager = new Manager({
    version: readVersion(),
    home,
    store,
    jobs,
    library,
    fabric,
    createWorker,
    log,
    allowedPaths: allowPaths,
    nat: natPolicy(options.natAllow ?? []),
    memoryLimitBytes,
  });
  const umlDir = options.umlDir ?? home.file('uml');
  const sockets = new VmSockets({
    services: manager.services,
    umlDir,
    notifyPath: options.umlNotify,
    log,
  });
  undo.push(() => sockets.close());
  const app = await buildApi({ services: manager.services, log });
  undo.push(() => app.close());
  await manager.start();
  undo.push(() => manager.services.supervisor.close());
  // Last, so that whoever connects finds everything; the VMs boot when the port is ours.
  const url = await listen(app, options.host ?? DEFAULT_HOST, options.port ?? DEFAULT_PORT);
  manager.autostart();
  log.info({ url, home: home.dir, pid: process.pid }, 'the daemon is ready');
  let closed: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    log.info({}, 'the daemon is ending');
    await app.close();
    await manager.close();
    await sockets.close();
    store.close();
    home.release();
    log.flush();
  };
  return {
    url,
    app,
    services: manager.services,
    close() {
      closed ??= close();
      return closed;
    },
  };
}

/** Names the state folder among those whose daemons share a Redis: made once at random, and moves with the folder. */
function redisPrefix(home: Home): string {
  const file = home.file('redis-prefix');
  try {
    return fs.readFileSync(file, 'utf8').trim();
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
  }
  const prefix = `umlaut-${randomUUID()}`;
  fs.writeFileSync(file, `${prefix}\n`, { mode: 0o600 });
  return prefix;
}

/** The API's URL. `port_in_use`, `invalid_input`. */
async function listen(app: FastifyInstance, host: string, port: number): Promise<string> {
  try {
    await app.listen({ host, port });
  } catch (error) {
    throw listenError(error, host, port);
  }
  const address = app.server.address();
  const bound = typeof address === 'object' && address !== null ? address.port : port;
  const shown = host.includes(':') ? `[${host}]` : host;
  return `http://${shown}:${bound}`;
}

function listenError(error: unknown, host: string, port: number): AppError {
  switch (systemErrorCode(error)) {
    case 'EADDRINUSE':
      return new AppError('port_in_use', `port ${port} of ${host} is in use by another program`, {
        field: 'UMLAUT_PORT',
        remedy: 'end that program, or choose another port with --port or UMLAUT_PORT',
        cause: error,
      });
    case 'EACCES':
      return new AppError('invalid_input', `port ${port} needs privileges that this user does not have`, {
        field: 'UMLAUT_PORT',
        remedy: 'choose a port from 1024 on',
        cause: error,
      });
    default:
      return new AppError('invalid_input', `cannot listen on ${host}: ${String(error)}`, {
        field: 'UMLAUT_HOST',
        remedy: 'name an address of this host',
        cause: error,
      });
  }
}

function fileLog(home: Home): Logger {
  return pino({ base: null }, pino.destination({ dest: home.file('daemon.log'), mode: 0o600, sync: false }));
}

function readVersion(): string {
  // INVARIANT: package.json has a version.
  const file = JSON.parse(fs.readFileSync(new URL('package.json', ROOT), 'utf8')) as {
    readonly version: string;
  };
  return file.version;
}

/** One thread compiles for all VMs. */
let compileService: CompileService | undefined;

const machineWorker: MachineFactory = (data) => {
  compileService ??= new CompileService();
  const compiler = compileService.connect();
  return new Worker(MACHINE_WORKER, {
    name: data.config.name,
    workerData: { ...data, compiler },
    transferList: [compiler],
    resourceLimits: THREAD_LIMITS,
  });
};

/** The image store as the manager sees it. */
function imageLibrary(dir: string): ImageLibrary {
  const store = new ImageStore(dir);
  return {
    list: () => store.list().map(storedImage),
    get: (id) => storedImage(store.get(id)),
    use: async (id) => storedImage(await store.use(id)),
    build: async (what, onProgress, signal) =>
      storedImage(await buildDefaultImage(store, { ...what, onProgress, signal })),
    import: async (sources, onProgress, signal) => {
      const report = (fraction: number): void => onProgress({ fraction, label: 'copying' });
      return storedImage(await store.import(sources, { onProgress: report, signal }));
    },
    verify: (id, signal) => store.verify(id, signal),
    // The database knows who depends on it, and has been asked.
    remove: (id) => store.remove(id, []),
  };
}

function storedImage(image: Image): StoredImage {
  const roles = ['kernel', 'initrd', 'disk'] as const;
  const files = roles.flatMap((role) => {
    const part = image.parts[role];
    return part === undefined ? [] : [{ role, sha256: part.sha256, sizeBytes: part.sizeBytes }];
  });
  const { id, name, append, createdAt, kernel, initrd, disk } = image;
  return { id, name, append, createdAt, kernel, initrd, disk, files, ...versionOf(kernel) };
}

/** Nulls when the file does not tell, or is missing: that is told when it is used. */
function versionOf(file: string): Pick<StoredImage, 'kernelRelease' | 'kernelVersion'> {
  const bytes = Buffer.alloc(KERNEL_VERSION_BYTES);
  let length = 0;
  try {
    const fd = fs.openSync(file, 'r');
    try {
      length = fs.readSync(fd, bytes, 0, bytes.length, 0);
    } finally {
      fs.closeSync(fd);
    }
  } catch {
    // Nothing was read.
  }
  const { release, version } = kernelVersion(bytes.subarray(0, length));
  return { kernelRelease: release, kernelVersion: version };
}
