// Hands a program of ours over to the Node that the package brings along, from whatever Node runs this.
// Plain old JavaScript: it must also parse where that Node is needed most.
import { spawn } from 'node:child_process';
import { existsSync, readlinkSync, realpathSync } from 'node:fs';
import { constants, cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const NODE_MAJOR = 26;
export const root = dirname(dirname(realpathSync(fileURLToPath(import.meta.url))));

/**
 * All that Node and V8 are told with a process's start, measured with the Node that package.json names; when that is
 * another one, look at each of them again.
 *
 * - Node runs TypeScript as it is and warns of it.
 * - A small young generation: V8 would let it grow to 64 MB, and a guest leaves next to no garbage.
 * - gc(): src/engine/v8.ts says when and why.
 * - No cells for variables that closures share: with bytecode from a cache, V8's compilers took a variable that had
 *   changed for a constant. The unpacking of a kernel wrote garbage (test/cli/node-flags.test.ts).
 * - No more of V8's own threads than there are processors beside a guest's: Node has four. With two processors the guest
 *   waited for them while they optimized its code: page faults took a seventh longer.
 */
export const NODE_FLAGS = [
  '--disable-warning=ExperimentalWarning',
  '--max-semi-space-size=1',
  '--expose-gc',
  '--no-function-context-cells',
  `--v8-pool-size=${Math.min(4, Math.max(1, cpus().length - 1))}`,
];

/**
 * glibc keeps what V8's compilers have freed, in an arena for each thread, unless it is told to give it back.
 *
 * Node keeps what it compiles, TypeScript without its types too: that starts in less than half the time, and
 * without the memory of a TypeScript compiler in each thread. Beside the program: whoever can write there can change
 * the program as well. Where nobody can, Node does without.
 *
 * All VMs and backups of a daemon share the threads of Node's pool. With four, as Node has it, reads wait for as many disks'
 * fdatasync: 3.8 ms in the median, where it is 0.2 ms with sixteen.
 */
const ENVIRONMENT = {
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '65536',
  MALLOC_TRIM_THRESHOLD_: '131072',
  UV_THREADPOOL_SIZE: '16',
  NODE_COMPILE_CACHE: join(root, 'node_modules', '.cache', 'umlaut'),
};

/** In node_modules of this package or of a folder above it, where npm may have put it. */
function findNode() {
  for (let folder = root; ; folder = dirname(folder)) {
    const candidate = join(folder, 'node_modules', 'node', 'bin', 'node');
    if (existsSync(candidate)) return realpathSync(candidate);
    if (dirname(folder) === folder) break;
  }
  return Number.parseInt(process.versions.node, 10) >= NODE_MAJOR ? process.execPath : undefined;
}

/** As UML's command line names them, `fd:7` and `tty_log_fd=3`. */
const NAMED_DESCRIPTOR = /(?:^tty_log_fd=|[=,]fd:)(\d{1,4})(?=,|$)/g;

/**
 * Descriptors above those of standard streams that the arguments name and that this process was started with. Node closes all such
 * ones when it replaces itself.
 */
function namedDescriptors(args) {
  const named = args.flatMap((word) =>
    [...word.matchAll(NAMED_DESCRIPTOR)].map(([, digits]) => Number(digits)),
  );
  return named.filter((fd) => {
    try {
      // Those of Node itself are not meant.
      return fd > 2 && !readlinkSync(`/proc/self/fd/${fd}`).startsWith('anon_inode:');
    } catch {
      return false;
    }
  });
}

/** Of a child process: each under its own number. */
function inherited(descriptors) {
  const stdio = ['inherit', 'inherit', 'inherit'];
  for (const fd of descriptors) {
    while (stdio.length < fd) stdio.push('ignore');
    stdio[fd] = fd;
  }
  return stdio;
}

function run(node, args) {
  const env = { ...process.env, ...ENVIRONMENT };
  const descriptors = namedDescriptors(args);
  if (typeof process.execve === 'function' && descriptors.length === 0) {
    process.execve(node, [node, ...args], env);
  }
  const child = spawn(node, args, { stdio: inherited(descriptors), env });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2']) {
    process.on(signal, () => {
      // What the terminal sends reaches the child without us.
      const fromTerminal = process.stdin.isTTY && (signal === 'SIGINT' || signal === 'SIGQUIT');
      if (!fromTerminal) child.kill(signal);
    });
  }
  child.on('error', (error) => {
    console.error(`umlaut: cannot run ${node}: ${error.message}`);
    process.exitCode = 1;
  });
  child.on('exit', (code, signal) => {
    if (signal === null) {
      process.exitCode = code ?? 1;
      return;
    }
    process.removeAllListeners(signal);
    process.exitCode = 128 + constants.signals[signal];
    process.kill(process.pid, signal);
  });
}

/** Runs a file of the package with the arguments of this process, in its place. */
export function launch(file) {
  const node = findNode();
  if (node === undefined) {
    console.error(
      `umlaut: needs Node ${NODE_MAJOR}, which its dependency "node" installs; this is ${process.version}.`,
    );
    console.error(`Run "npm ci" in ${root} with install scripts allowed.`);
    process.exitCode = 1;
    return;
  }
  run(node, [...NODE_FLAGS, join(root, file), ...process.argv.slice(2)]);
}
