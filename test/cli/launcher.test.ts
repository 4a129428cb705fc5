/** bin/umlaut.mjs: finds the pinned Node, runs the command on it, and is out of the way. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NODE_FLAGS } from '../../bin/launch.mjs';

const BIN = fileURLToPath(new URL('../../bin', import.meta.url));

/** What Node 20 has not, taken away. */
const OLD_NODE = `data:text/javascript,${encodeURIComponent(`
  delete process.execve;
  Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.19.0' } });
`)}`;

const REPORT = `
process.stdout.write(JSON.stringify({ args: process.argv.slice(2), file: process.argv[1] }));
process.stderr.write('to stderr');
process.exitCode = 4;
`;
const WAIT_FOR_SIGNAL = `
const timer = setInterval(() => {}, 1000);
process.on('SIGTERM', () => { clearInterval(timer); process.exitCode = 7; });
process.stdout.write('ready');
`;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'umlaut-launcher-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function put(file: string, text: string): void {
  mkdirSync(dirname(join(folder, file)), { recursive: true });
  writeFileSync(join(folder, file), text);
}

/** The launcher in `pack`, and Node as the npm package installs it in `modules`. */
function install(pack: string, modules: string): string {
  mkdirSync(join(folder, modules, 'node/bin'), { recursive: true });
  symlinkSync(process.execPath, join(folder, modules, 'node/bin/node'));
  mkdirSync(join(folder, pack, 'bin'), { recursive: true });
  for (const file of ['umlaut.mjs', 'launch.mjs'])
    copyFileSync(join(BIN, file), join(folder, pack, 'bin', file));
  return join(folder, pack, 'bin/umlaut.mjs');
}

describe.each([
  ['by replacing the process', []],
  ['by a child process, where Node cannot replace itself', ['--import', OLD_NODE]],
])('%s', (_, flags) => {
  it('runs the TypeScript of a checkout with arguments, streams and status passed through', () => {
    const launcher = install('.', 'node_modules');
    put('src/cli/main.ts', `const typed: number = 1; void typed;${REPORT}`);
    const { stdout, stderr, status } = spawnSync(process.execPath, [...flags, launcher, 'vm', '--x=a b'], {
      encoding: 'utf8',
    });
    const file = join(folder, 'src/cli/main.ts');
    expect(JSON.parse(stdout)).toEqual({ args: ['vm', '--x=a b'], file });
    expect({ stderr, status }).toEqual({ stderr: 'to stderr', status: 4 });
  });

  it('starts the Node with flags that it knows, and a cache of code beside the program', () => {
    const launcher = install('.', 'node_modules');
    put(
      'src/cli/main.ts',
      'process.stdout.write(JSON.stringify([process.execArgv, process.env.NODE_COMPILE_CACHE]));',
    );
    const { stdout } = spawnSync(process.execPath, [...flags, launcher], { encoding: 'utf8' });
    const [started, cache] = JSON.parse(stdout) as [string[], string];
    expect(started).toEqual(NODE_FLAGS);
    expect(cache).toBe(join(folder, 'node_modules/.cache/umlaut'));
    expect(existsSync(cache)).toBe(true);
    const known = ['--v8-options', '--help']
      .map((option) => spawnSync(process.execPath, [option], { encoding: 'utf8' }).stdout)
      .join('');
    for (const flag of NODE_FLAGS.slice(1))
      expect(known).toContain(flag.split('=')[0]!.replace('--no-', '--'));
  });

  it('runs the JavaScript of an installed package, found through the link of the command', () => {
    const launcher = install('node_modules/umlaut', 'node_modules');
    put('node_modules/umlaut/dist/cli/main.js', REPORT);
    put('node_modules/umlaut/package.json', '{"type":"module"}');
    mkdirSync(join(folder, 'node_modules/.bin'));
    const link = join(folder, 'node_modules/.bin/umlaut');
    symlinkSync(launcher, link);
    const { stdout, status } = spawnSync(process.execPath, [...flags, link], { encoding: 'utf8' });
    expect(JSON.parse(stdout).file).toBe(join(folder, 'node_modules/umlaut/dist/cli/main.js'));
    expect(status).toBe(4);
  });

  it('passes descriptors on that the arguments name', () => {
    const launcher = install('.', 'node_modules');
    const tell =
      "import { writeSync } from 'node:fs'; for (const fd of [3, 5, 7]) writeSync(fd, 'to ' + fd);";
    put('src/cli/main.ts', tell);
    const files = [3, 5, 7].map((fd) => join(folder, `descriptor${fd}`));
    const [three, five, seven] = files.map((file) => openSync(file, 'w'));
    const words = [
      'linux',
      'tty_log_fd=5',
      'ssl1=null,fd:7',
      'con0=fd:3,fd:1',
      'con1=fd:9999999',
      'con2=fd:999',
    ];
    const ended = spawnSync(process.execPath, [...flags, launcher, ...words], {
      stdio: ['ignore', 'ignore', 'pipe', three!, 'ignore', five!, 'ignore', seven!],
      encoding: 'utf8',
    });
    for (const fd of [three, five, seven]) closeSync(fd!);
    expect(ended.stderr).toBe('');
    expect(files.map((file) => readFileSync(file, 'utf8'))).toEqual(['to 3', 'to 5', 'to 7']);
  });

  it.each([
    ['ends with the status that the command ends with', WAIT_FOR_SIGNAL, { status: 7, killed: null }],
    [
      'dies of the signal that the command dies of',
      "process.stdout.write('ready'); setInterval(() => {}, 1000);",
      { status: null, killed: 'SIGTERM' },
    ],
  ])('passes SIGTERM on and %s', async (_title, script, expected) => {
    const launcher = install('.', 'node_modules');
    put('src/cli/main.ts', script);
    const child = spawn(process.execPath, [...flags, launcher], { stdio: ['ignore', 'pipe', 'inherit'] });
    await ready(child);
    child.kill('SIGTERM');
    const [status, killed] = await once(child, 'exit');
    expect({ status, killed }).toEqual(expected);
  });
});

async function ready(child: ChildProcess): Promise<void> {
  const [text] = await once(child.stdout!, 'data');
  expect(String(text)).toBe('ready');
}

it('says what to do when the pinned Node is not there and its own is too old', () => {
  const launcher = install('.', 'node_modules');
  rmSync(join(folder, 'node_modules'), { recursive: true });
  const { stderr, status } = spawnSync(process.execPath, ['--import', OLD_NODE, launcher], {
    encoding: 'utf8',
  });
  expect(status).toBe(1);
  expect(stderr).toContain('needs Node 26');
  expect(stderr).toContain('npm ci');
});
