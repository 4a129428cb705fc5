import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { claimUmid, isUmid, releaseUmid } from './umid-folder.ts';

function umlDir(): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-umid-'));
  onTestFinished(() => fs.rmSync(dir, { recursive: true, force: true }));
  return path.join(dir, 'uml');
}
const free = (): boolean => false;

describe('the folder of a umid', () => {
  it('has the pid in it, and goes', () => {
    const dir = umlDir();
    const folder = claimUmid(dir, 'web', free)!;
    expect(folder.socket).toBe(path.join(dir, 'web', 'mconsole'));
    expect(fs.readFileSync(path.join(dir, 'web', 'pid'), 'utf8')).toBe(`${process.pid}\n`);
    expect(fs.statSync(path.join(dir, 'web')).mode & 0o777).toBe(0o700);
    releaseUmid(folder);
    expect(fs.readdirSync(dir)).toEqual([]);
  });

  it('is in use while the process that its pid file names is alive', () => {
    const dir = umlDir();
    fs.mkdirSync(path.join(dir, 'web'), { recursive: true });
    fs.writeFileSync(path.join(dir, 'web/pid'), '4242\n');
    fs.writeFileSync(path.join(dir, 'web/mconsole'), '');
    expect(claimUmid(dir, 'web', free, (pid) => pid === 4242)).toBeUndefined();
    expect(fs.readdirSync(path.join(dir, 'web')).sort()).toEqual(['mconsole', 'pid']);
    expect(claimUmid(dir, 'web', free, () => false)).toBeDefined();
    expect(fs.readdirSync(path.join(dir, 'web'))).toEqual(['pid']);
  });

  it('is taken over when its pid file is missing, wrong, or names this process by chance', () => {
    const dir = umlDir();
    for (const pid of [undefined, '', 'x', '-1\n', '0\n', `${process.pid}\n`]) {
      fs.rmSync(dir, { recursive: true, force: true });
      fs.mkdirSync(path.join(dir, 'web'), { recursive: true });
      if (pid !== undefined) fs.writeFileSync(path.join(dir, 'web/pid'), pid);
      expect(claimUmid(dir, 'web', free, () => true)).toBeDefined();
    }
    expect(claimUmid(dir, 'web', (umid) => umid === 'web')).toBeUndefined();
  });

  it('is left alone when it is something else', () => {
    const dir = umlDir();
    fs.mkdirSync(path.join(dir, 'papers'), { recursive: true });
    fs.writeFileSync(path.join(dir, 'papers/letter'), 'dear');
    fs.symlinkSync('papers', path.join(dir, 'link'));
    for (const umid of ['papers', 'link']) expect(claimUmid(dir, umid, free)).toBeUndefined();
    expect(fs.readdirSync(path.join(dir, 'papers'))).toEqual(['letter']);
  });

  it('has a name that is one part of a path', () => {
    expect(['web', 'vm-0123456789abcdef', 'a'.repeat(63)].every(isUmid)).toBe(true);
    expect(['', '.', '..', 'a/b', 'a'.repeat(64), 'a\0'].some(isUmid)).toBe(false);
  });
});
