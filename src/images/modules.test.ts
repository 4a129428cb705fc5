import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { scratchFolder } from '../../test/support/storage.ts';
import { type KernelModule, loadOrder, modulesAlias, modulesDep, readModules } from './modules.ts';

function known(...list: [name: string, ...depends: string[]][]): Map<string, KernelModule> {
  return new Map(
    list.map(([name, ...depends]) => [name, { name, file: `kernel/${name}.ko`, depends, aliases: [] }]),
  );
}

const VIRTIO = known(
  ['virtio'],
  ['virtio_ring'],
  ['virtio_pci', 'virtio_ring', 'virtio'],
  ['virtio_blk', 'virtio', 'virtio_ring'],
);

describe('loadOrder', () => {
  it('puts what is needed first, once', () => {
    expect(loadOrder(VIRTIO, ['virtio_pci', 'virtio-blk']).map(({ name }) => name)).toEqual([
      'virtio_ring',
      'virtio',
      'virtio_pci',
      'virtio_blk',
    ]);
  });

  it('passes over what is built in', () => {
    expect(loadOrder(VIRTIO, ['ext4'])).toEqual([]);
  });

  it('refuses a circle', () => {
    expect(() => loadOrder(known(['a', 'b'], ['b', 'a']), ['a'])).toThrow('depend on each other');
  });
});

it('writes modules.dep as modprobe reads it', () => {
  expect(modulesDep(VIRTIO)).toBe(
    'kernel/virtio.ko:\n' +
      'kernel/virtio_blk.ko: kernel/virtio_ring.ko kernel/virtio.ko\n' +
      'kernel/virtio_pci.ko: kernel/virtio.ko kernel/virtio_ring.ko\n' +
      'kernel/virtio_ring.ko:\n',
  );
});

it('reads dependencies and aliases out of an ELF object', async () => {
  const folder = scratchFolder();
  fs.mkdirSync(path.join(folder, 'kernel'));
  fs.writeFileSync(
    path.join(folder, 'kernel', 'virtio-rng.ko'),
    elfWithModInfo('alias=virtio:d4v*\0depends=virtio,a-b\0name=virtio_rng\0'),
  );
  fs.writeFileSync(path.join(folder, 'modules.order'), '');
  const modules = await readModules(folder);
  expect([...modules.values()]).toEqual([
    {
      name: 'virtio_rng',
      file: 'kernel/virtio-rng.ko',
      depends: ['virtio', 'a_b'],
      aliases: ['virtio:d4v*'],
    },
  ]);
  expect(modulesAlias(modules)).toBe('alias virtio:d4v* virtio_rng\n');
});

/** An ELF64 object with the sections .shstrtab and .modinfo. */
function elfWithModInfo(text: string): Buffer {
  const names = Buffer.from('\0.shstrtab\0.modinfo\0');
  const info = Buffer.from(text);
  const header = Buffer.alloc(64);
  header.write('\x7fELF\x02\x01\x01', 0, 'latin1');
  header.writeBigUInt64LE(BigInt(64 + names.length + info.length), 0x28);
  header.writeUInt16LE(64, 0x3a);
  header.writeUInt16LE(3, 0x3c);
  header.writeUInt16LE(1, 0x3e);
  const section = (name: number, offset: number, bytes: number): Buffer => {
    const entry = Buffer.alloc(64);
    entry.writeUInt32LE(name, 0);
    entry.writeBigUInt64LE(BigInt(offset), 24);
    entry.writeBigUInt64LE(BigInt(bytes), 32);
    return entry;
  };
  const table = [section(0, 0, 0), section(1, 64, names.length), section(11, 64 + names.length, info.length)];
  return Buffer.concat([header, names, info, ...table]);
}
