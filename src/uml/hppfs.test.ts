import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { readHppfs } from './hppfs.ts';

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), 'umlaut-hppfs-'));
  onTestFinished(() => rmSync(made, { recursive: true }));
  return made;
}

describe('a folder of hppfs', () => {
  it('replaces and hides files by what is in it', async () => {
    const made = folder();
    for (const path of ['bus/pci/remove', 'pid', 'uptime'])
      mkdirSync(join(made, 'proc', path), { recursive: true });
    mkdirSync(join(made, 'proc/modules'));
    writeFileSync(join(made, 'proc/modules/remove'), '');
    writeFileSync(join(made, 'proc/cpuinfo'), 'cpu\n');
    writeFileSync(join(made, 'proc/pid/mounts'), 'none\n');
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(join(made, 'proc/uptime/r'), resolve));
    onTestFinished(() => void server.close());
    expect(readHppfs(made)).toEqual([
      { path: 'bus/pci', source: { kind: 'hidden' } },
      { path: 'cpuinfo', source: { kind: 'file', path: join(made, 'proc/cpuinfo') } },
      { path: 'modules', source: { kind: 'hidden' } },
      { path: 'pid/mounts', source: { kind: 'file', path: join(made, 'proc/pid/mounts') } },
      { path: 'uptime', source: { kind: 'socket', path: join(made, 'proc/uptime/r') } },
    ]);
  });

  it('is refused without a folder proc, and with what there is no way to do', () => {
    const made = folder();
    expect(() => readHppfs(made)).toThrow(expect.objectContaining({ code: 'not_found', field: 'hppfs' }));
    mkdirSync(join(made, 'proc/mounts'), { recursive: true });
    writeFileSync(join(made, 'proc/mounts/rw'), '');
    expect(() => readHppfs(made)).toThrow(expect.objectContaining({ code: 'unsupported' }));
  });
});
