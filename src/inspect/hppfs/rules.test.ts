import { describe, expect, it } from 'vitest';
import { ProcRules } from './rules.ts';

const content = (): Uint8Array => new Uint8Array(0);
const found = (rule: string, path: string): boolean =>
  new ProcRules([{ path: rule, content }]).find(path, commandOf) !== undefined;
const commandOf = (pid: number): string | undefined => ({ 17: 'sshd', 18: 'a-very-long-nam' })[pid];

describe('rules for /proc', () => {
  it.each([
    ['cpuinfo', 'cpuinfo', true],
    ['cpuinfo', 'cpuinfo2', false],
    ['sys/kernel/hostname', 'sys/kernel/hostname', true],
    ['pid/status', '17/status', true],
    ['pid/status', '17/task/18/status', true],
    ['17/status', '17/status', true],
    ['17/status', '17/task/18/status', true],
    ['17/status', '18/status', false],
    ['pid', '17', true],
    ['pid', '17/task/17', false],
    ['17', '17', true],
    ['17', '17/stat', false],
    ['mounts', '17/mounts', true],
    ['mounts', '17/mountinfo', false],
    ['net/dev', '17/net/dev', true],
    ['net/dev', '17/task/18/net/dev', true],
    ['status', '17/status', false],
    ['comm:sshd', '17', true],
    ['comm:sshd', '17/task/17', false],
    ['comm:sshd', '18', false],
    ['comm:sshd', '19', false],
    ['comm:sshd/status', '17/task/20/status', true],
    ['comm:a-very-long-name', '18', true],
    ['comm:sshd', 'comm:sshd', true],
  ])('%s names %s: %s', (rule, path, expected) => {
    expect(found(rule, path)).toBe(expected);
    // What is named passes the test that is made first.
    const rules = new ProcRules([{ path: rule, content }]);
    if (expected) expect(rules.mayConcern(path.slice(path.lastIndexOf('/') + 1))).toBe(true);
  });

  it('most names are seen at once not to be meant', () => {
    const rules = new ProcRules([{ path: 'pid/status', content }]);
    expect(['status', 'stat', '17', 'pid'].map((name) => rules.mayConcern(name))).toEqual([
      true,
      false,
      false,
      false,
    ]);
  });

  it('the most exact one counts', () => {
    const rules = new ProcRules([
      { path: 'pid/status', content: undefined },
      { path: '17/status', content },
    ]);
    expect(rules.hides('17/status', commandOf)).toBe(false);
    expect(rules.hides('18/status', commandOf)).toBe(true);
  });
});
