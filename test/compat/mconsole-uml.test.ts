/**
 * The same commands by the real uml_mconsole to the real User Mode Linux and to a machine of ours on the same command
 * line: what it prints, and its exit status, must be the same.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { cpioArchive } from '../../src/images/cpio.ts';
import { umlMconsole, until } from '../support/mconsole-client.ts';
import { requireTestImage } from '../support/test-image.ts';
import { requireTool, skipTest } from '../support/tools.ts';

const LAUNCHER = fileURLToPath(new URL('../../bin/umlaut.mjs', import.meta.url));
const MINUTE_MS = 60_000;

/** In this order: each finds what the ones before have left. `@` is the folder. */
const COMMANDS = [
  'version',
  'help',
  'versionXYZ',
  'nonsense',
  'VERSION',
  'config',
  'config xyz',
  'remove xyz',
  'config con0',
  'config con1',
  'config con99',
  'config con',
  'config conx',
  'config con1=pts',
  'config con1',
  'config con1=zzz',
  'config con1',
  'config con2=',
  'config con2=fd:',
  'config con4=pts,',
  'config con=pts',
  'config con99=null',
  'config conq=null',
  'config con3=none',
  'config con3',
  'config con5=null',
  'remove con5',
  'config con5',
  'config ubd0',
  'config ubda',
  'config ubd1',
  'config ubd77',
  'config ubd',
  'config ubd1=@/other',
  'config ubd1',
  'config ubdb',
  'config ubd1=@/other',
  'config ubd99=@/other',
  'config ubd2=@/missing',
  'config ubd2q=@/other',
  'config ubd2rrrrrrr=@/other',
  'config ubd2d=@/x,@/other',
  'config ubd3=@/new_cow,@/other2',
  'config ubd3',
  'remove ubd',
  'remove ubd77',
  'remove ubd9',
  'remove ubd1',
  'config ubd1',
  'remove ubd1',
  'config eth0',
  'config ethx=1',
  'remove eth5',
  'remove ethx',
  'config mem',
  'config mem=64',
  'config mem=-zz',
  'remove mem',
  'stop',
  'stop',
  'version',
  'go',
  'go',
  'proc uptime',
  'proc nonexistent',
  'stack',
  'stack 0',
  'stack 99999',
  'log hello',
  'sysrq h',
  'halt',
] as const;

/** What is not the same for two kernels: releases, times, addresses, names of devices, the list of SysRq's keys. */
function comparable(command: string, text: string): string {
  const known = text
    .replace(/Linux \S+ \d[^\n]* x86_64/, 'UNAME')
    .replace(/:\/dev\/pts\/\d+/, '')
    .replace(/^OK \d{5,}$/m, 'OK NUMBER')
    .replaceAll(/\d+\.\d\d/g, 'SECONDS');
  return command === 'sysrq h' ? known.replace(/HELP : .*/s, 'HELP : KEYS') : known;
}

interface Machine {
  readonly socket: string;
  readonly child: ChildProcess;
}

async function start(
  folder: string,
  name: string,
  command: string,
  args: readonly string[],
): Promise<Machine> {
  const child = spawn(command, [...args, `umid=${name}`, `uml_dir=${folder}/run`], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, HOME: folder, TMPDIR: folder },
    // UML is several processes, which end together.
    detached: true,
  });
  onTestFinished(() => {
    try {
      process.kill(-child.pid!, 'SIGKILL');
    } catch {
      // It has ended.
    }
  });
  let output = '';
  let ended = false;
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (bytes: Buffer) => (output = (output + bytes.toString('latin1')).slice(-20_000)));
  child.once('exit', () => {
    ended = true;
  });
  const deadline = Date.now() + 2 * MINUTE_MS;
  while (!output.includes('READY') && !ended && Date.now() < deadline)
    await until(() => (output.includes('READY') || ended ? true : undefined), 'READY').catch(() => undefined);
  if (!output.includes('READY')) {
    if (name === 'uml') skipTest(`linux.uml does not come up here: ${output.slice(-200)}`);
    throw new Error(`${name} is not ready:\n${output}`);
  }
  return { socket: path.join(folder, 'run', name, 'mconsole'), child };
}

function prepare(): { folder: string; words: string[] } {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-uml-'));
  onTestFinished(() => fs.rmSync(folder, { recursive: true, force: true }));
  const busybox = fs.readFileSync(requireTool('busybox', 'busybox-static'));
  const init = [
    '#!/bin/busybox sh',
    ...['proc', 'sysfs'].map((fs) => `/bin/busybox mount -t ${fs} ${fs} /${fs === 'proc' ? 'proc' : 'sys'}`),
    '/bin/busybox mount -t devtmpfs dev /dev',
    'exec </dev/console >/dev/console 2>&1',
    '/bin/busybox echo READY',
    'while :; do /bin/busybox sleep 3600; done',
  ].join('\n');
  const archive = cpioArchive([
    ...['bin', 'dev', 'proc', 'sys'].map((name) => ({ kind: 'folder' as const, path: name })),
    { kind: 'file', path: 'bin/busybox', content: busybox, executable: true },
    { kind: 'file', path: 'init', content: Buffer.from(init), executable: true },
  ]);
  fs.writeFileSync(path.join(folder, 'initrd'), archive);
  const words = ['mem=128M', 'con=null', 'con0=null,fd:1', 'initrd=initrd', 'root=/dev/ram0'];
  return { folder, words };
}

async function exchange(folder: string, { socket }: Machine): Promise<unknown[]> {
  const answers: unknown[] = [];
  for (const command of COMMANDS) {
    const sent = command.replaceAll('@', folder);
    const { status, stdout } = await umlMconsole(socket, sent);
    answers.push([command, status, comparable(command, stdout.replaceAll(folder, '@'))]);
  }
  return answers;
}

test(
  'a machine of ours answers as User Mode Linux does',
  async () => {
    const uml = requireTool('linux.uml', 'user-mode-linux');
    const image = await requireTestImage();
    const ask = async (name: string, command: string, args: readonly string[]): Promise<unknown[]> => {
      const { folder, words } = prepare();
      for (const file of ['root_fs', 'other', 'other2'])
        fs.writeFileSync(path.join(folder, file), Buffer.alloc(1 << 20));
      const machine = await start(folder, name, command, [...args, ...words, `ubd0=${folder}/root_fs`]);
      const ended = once(machine.child, 'exit');
      const answers = await exchange(folder, machine);
      await ended;
      answers.push(['the folder', fs.readdirSync(path.join(folder, 'run'))]);
      return answers;
    };
    const theirs = await ask('uml', 'setarch', ['-R', uml, 'ssl=null']);
    const ours = await ask('ours', process.execPath, [
      ...[LAUNCHER, 'linux', '--kernel', image.kernel, 'ssl0=null,fd:1', 'console=ttyS0'],
    ]);
    expect(ours).toEqual(theirs);
  },
  5 * MINUTE_MS,
);
