#!/usr/bin/env node
// Runs on whatever Node starts it and hands over to the Node that the package brings along.
// Plain old JavaScript: it must also parse where that Node is needed most.
import { spawn } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const NODE_MAJOR = 26;
/**
 * What Node and V8 are started with; src/engine/v8.ts has what they are told later. Measured with the Node that package.json names.
 * A small young generation: V8 would let it grow to 64 MB, and a guest leaves next to no garbage.
 */
const NODE_FLAGS = ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=4'];
/**
 * glibc keeps what V8's compilers have freed, in an arena for each thread, unless it is told to give it back.
 * Node's cache of compiled JavaScript is off: with code from it the decoder made wrong micro-ops.
 */
const ENVIRONMENT = {
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '65536',
  MALLOC_TRIM_THRESHOLD_: '131072',
  NODE_DISABLE_COMPILE_CACHE: '1',
};
const root = dirname(dirname(realpathSync(fileURLToPath(import.meta.url))));

/** In node_modules of this package or of a folder above it, where npm may have put it. */
function findNode() {
  for (let folder = root; ; folder = dirname(folder)) {
    const candidate = join(folder, 'node_modules', 'node', 'bin', 'node');
    if (existsSync(candidate)) return realpathSync(candidate);
    if (dirname(folder) === folder) break;
  }
  return Number.parseInt(process.versions.node, 10) >= NODE_MAJOR ? process.execPath : undefined;
}

/** The TypeScript of a checkout, or the JavaScript of a package: Node runs no TypeScript in node_modules. */
function findMain() {
  const source = join(root, 'src', 'cli', 'main.ts');
  const built = join(root, 'dist', 'cli', 'main.js');
  return existsSync(source) ? source : built;
}

function run(node, args) {
  const env = { ...process.env, ...ENVIRONMENT };
  if (typeof process.execve === 'function') {
    process.execve(node, [node, ...args], env);
  }
  const child = spawn(node, args, { stdio: 'inherit', env });
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

const node = findNode();
if (node === undefined) {
  console.error(
    `umlaut: needs Node ${NODE_MAJOR}, which its dependency "node" installs; this is ${process.version}.`,
  );
  console.error(`Run "npm ci" in ${root} with install scripts allowed.`);
  process.exitCode = 1;
} else {
  run(node, [...NODE_FLAGS, findMain(), ...process.argv.slice(2)]);
}
