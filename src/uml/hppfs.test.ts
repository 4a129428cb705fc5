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
    mkdirSync(join(made, 'proc/devices'));
    // As in UML, rw comes before r.
    for (const name of ['r', 'rw']) writeFileSync(join(made, 'proc/devices', name), '');
    writeFileSync(join(made, 'proc/cpuinfo'), 'cpu\n');
    writeFileSync(join(made, 'proc/pid/mounts'), 'none\n');
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(join(made, 'proc/uptime/r'), resolve));
    onTestFinished(() => void server.close());
    expect(readHppfs(made)).toEqual([
      { path: 'bus/pci', source: { kind: 'hidden' } },
      { path: 'cpuinfo', source: { kind: 'file', path: join(made, 'proc/cpuinfo') } },
      { path: 'devices', source: { kind: 'socket', path: join(made, 'proc/devices/rw'), filter: true } },
      { path: 'modules', source: { kind: 'hidden' } },
      { path: 'pid/mounts', source: { kind: 'file', path: join(made, 'proc/pid/mounts') } },
      { path: 'uptime', source: { kind: 'socket', path: join(made, 'proc/uptime/r') } },
    ]);
  });

  it('is refused without a folder proc', () => {
    const made = folder();
    expect(() => readHppfs(made)).toThrow(expect.objectContaining({ code: 'not_found', field: 'hppfs' }));
  });
});
