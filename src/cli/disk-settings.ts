/** Options for a disk's limits and error policy, and how they are shown. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Disk, DiskSettings } from '../contracts/api/index.ts';
import { formatBytes } from './format.ts';
import { NONE, orNull, parseBytes, parseCount } from './parse.ts';

type Limit = number | typeof NONE;

export interface DiskSettingOptions {
  readonly iops?: Limit;
  readonly iopsBurst?: Limit;
  readonly bandwidth?: Limit;
  readonly bandwidthBurst?: Limit;
  readonly onError?: 'report' | 'pause';
}

function orNone(parse: (text: string) => number): (text: string) => Limit {
  return (text) => {
    if (text === 'none') return NONE;
    const value = parse(text);
    if (value === 0) throw new InvalidArgumentError('Write a number above 0, or none.');
    return value;
  };
}

/** Adds the options to a command whose disk `which` names. */
export function addDiskSettings(command: Command, which: string): Command {
  return command
    .option('--iops <number>', `most requests per second of ${which}, or none`, orNone(parseCount))
    .option('--iops-burst <number>', 'requests that may come at once after a rest', orNone(parseCount))
    .option('--bandwidth <size>', 'most bytes per second, such as 20M, or none', orNone(parseBytes))
    .option('--bandwidth-burst <size>', 'bytes that may come at once after a rest', orNone(parseBytes))
    .addOption(
      new Option(
        '--on-error <policy>',
        'a failed request: an I/O error in the guest, or the VM stops',
      ).choices(['report', 'pause']),
    );
}

/** Only what was given. */
export function diskSettings(options: DiskSettingOptions): DiskSettings {
  const { iops, iopsBurst, bandwidth, bandwidthBurst, onError } = options;
  const limits = {
    ...(iops !== undefined && { iops: orNull(iops) }),
    ...(iops === NONE && { iops_burst: null }),
    ...(iopsBurst !== undefined && { iops_burst: orNull(iopsBurst) }),
    ...(bandwidth !== undefined && { bytes_per_second: orNull(bandwidth) }),
    ...(bandwidth === NONE && { bytes_burst: null }),
    ...(bandwidthBurst !== undefined && { bytes_burst: orNull(bandwidthBurst) }),
  };
  return {
    ...(Object.keys(limits).length > 0 && { limits }),
    ...(onError !== undefined && { on_error: onError }),
  };
}

export function formatLimits({ limits }: Disk): string {
  const { iops, iops_burst, bytes_per_second, bytes_burst } = limits;
  const parts: string[] = [];
  if (iops !== null) parts.push(`${iops} requests/s${iops_burst === null ? '' : `, ${iops_burst} at once`}`);
  if (bytes_per_second !== null) {
    const burst = bytes_burst === null ? '' : `, ${formatBytes(bytes_burst)} at once`;
    parts.push(`${formatBytes(bytes_per_second)}/s${burst}`);
  }
  return parts.length === 0 ? 'none' : parts.join('; ');
}
