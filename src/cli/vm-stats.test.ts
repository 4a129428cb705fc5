import { expect, test } from 'vitest';
import { formatStats } from './vm-stats.ts';

test('a network card has its counters and what was dropped, by cause', () => {
  const nic = { device: 'eth0', rx_frames: 7, rx_bytes: 420, tx_frames: 3, tx_bytes: 180 };
  const stats = { instructions: 1000, wall_seconds: 2, cpu_seconds: 1, disks: [] };
  const nics = [{ ...nic, drops: { queueFull: 5, macSpoof: 0, beforeSwitch: 1 } }];
  expect(formatStats({ ...stats, nics })).toMatch(
    /eth0 +7 frames in \(420\), 3 out \(180\), queueFull 5, beforeSwitch 1\n/,
  );
  expect(formatStats({ ...stats, nics: [{ ...nic, drops: {} }] })).toMatch(/3 out \(180\)\n/);
});
