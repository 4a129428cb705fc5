import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { scratchFolder } from '../../../test/support/storage.ts';
import { RcloneObjects } from './rclone-objects.ts';

/** A folder with a program in rclone's place. */
function standIn(script: string): string {
  const folder = scratchFolder();
  fs.writeFileSync(path.join(folder, 'rclone'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return folder;
}

function setPath(value: string): void {
  const before = process.env.PATH;
  process.env.PATH = value;
  onTestFinished(() => {
    process.env.PATH = before;
  });
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return fs.readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]![0] !== 'Z';
  } catch {
    return false;
  }
}

it("what was begun by a process that is killed ends with it: it would finish a manifest in a store that is another daemon's by then", async () => {
  // It has all that it is to store, and is about to.
  const folder = standIn(
    'cat > /dev/null; echo $$ > "$PID_FILE.new"; mv "$PID_FILE.new" "$PID_FILE"; exec sleep 600',
  );
  const pidFile = path.join(folder, 'pid');
  const module = new URL('rclone-objects.ts', import.meta.url).href;
  const program = `const { RcloneObjects } = await import(${JSON.stringify(module)});
    await new RcloneObjects('there:').put('manifests/one', Buffer.from('whole'));`;
  const daemon = spawn(process.execPath, ['--input-type=module', '-e', program], {
    env: { ...process.env, PATH: `${folder}:${process.env.PATH}`, PID_FILE: pidFile },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const ended = once(daemon, 'exit');
  await expect.poll(() => fs.existsSync(pidFile), { timeout: 20_000 }).toBe(true);
  const pid = Number(fs.readFileSync(pidFile, 'utf8'));
  onTestFinished(() => {
    if (isRunning(pid)) process.kill(pid, 'SIGKILL');
  });
  expect(isRunning(pid)).toBe(true);
  daemon.kill('SIGKILL');
  await ended;
  await expect.poll(() => isRunning(pid), { timeout: 5000 }).toBe(false);
}, 40_000);

it('a missing rclone is told with the package that has it', async () => {
  const folder = scratchFolder();
  // Everything that it is begun by is there.
  for (const name of ['setpriv', 'sh']) {
    const found = process.env
      .PATH!.split(':')
      .map((one) => path.join(one, name))
      .find((file) => fs.existsSync(file));
    fs.symlinkSync(found!, path.join(folder, name));
  }
  setPath(folder);
  await expect(new RcloneObjects('there:').get('packs/x', 10)).rejects.toMatchObject({
    code: 'tool_missing',
    remedy: expect.stringContaining('rclone'),
  });
  setPath(path.join(folder, 'nowhere'));
  await expect(new RcloneObjects('there:').get('packs/x', 10)).rejects.toMatchObject({
    code: 'tool_missing',
  });
});
