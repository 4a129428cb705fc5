/** What `umlaut boot`'s options say. */
import { InvalidArgumentError } from 'commander';
import type { DiskConfig } from '../contracts/machine.ts';

/** A disk without the name that the machine gives it. */
export type BootDisk = Omit<DiskConfig, 'device'>;

const NETWORK_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** `FILE[,cow=FILE][,readonly]`, added to those before it. */
export function parseDisk(text: string, previous: readonly BootDisk[] = []): BootDisk[] {
  const [file = '', ...settings] = text.split(',');
  if (file === '') throw new InvalidArgumentError('Write it as FILE[,cow=FILE][,readonly].');
  let cow: string | undefined;
  let readOnly = false;
  for (const setting of settings) {
    if (setting === 'readonly') readOnly = true;
    else if (setting.startsWith('cow=') && setting.length > 4) cow = setting.slice(4);
    else
      throw new InvalidArgumentError(`"${setting}" is not a disk setting; there are cow=FILE and readonly.`);
  }
  if (cow !== undefined && readOnly) {
    throw new InvalidArgumentError(
      'A disk with a copy-on-write file is there to be written: leave out one of cow and readonly.',
    );
  }
  return [...previous, { file, cow, readOnly }];
}

/** On a network of the run, or with a transport of its own, as it was written. */
export type BootNic = { readonly network: string } | { readonly transport: string };

/** `none`, `network=NAME` or a transport; all NICs so far. */
export function parseNic(text: string, previous: readonly BootNic[] = []): BootNic[] {
  if (text === 'none') return [...previous];
  const [key, name = ''] = text.split('=', 2);
  if (key !== 'network') return [...previous, { transport: text }];
  if (!NETWORK_NAME.test(name)) {
    throw new InvalidArgumentError('Write none or network=NAME, with a name of letters, digits and dashes.');
  }
  return [...previous, { network: name }];
}

/** A count of at least 1. */
export function parseCount(text: string): number {
  const count = Number(text);
  if (!/^\d{1,9}$/.test(text) || count < 1)
    throw new InvalidArgumentError('Write a number from 1 to 999999999.');
  return count;
}

/** An I/O port, decimal or 0x…. */
export function parsePort(text: string): number {
  const port = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (!(port >= 0 && port <= 0xffff)) throw new InvalidArgumentError('Write an I/O port such as 0xf4.');
  return port;
}
