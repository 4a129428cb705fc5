/** Layers over each other are copy-on-write files of UML: uml_moo merges each with the one below it. And hostile chains. */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  convertDisk,
  createCow,
  createLayers,
  inspectCow,
  mergeCow,
  openDisk,
} from '../../src/storage/index.ts';
import { encodeCowHeader } from '../../src/storage/cow/header.ts';
import { pattern, scratchFolder } from '../support/storage.ts';
import { requireTool } from '../support/tools.ts';

const SIZE = 1 << 20;
const SECTOR = 512;

interface Chain {
  readonly folder: string;
  readonly base: string;
  /** The lowest first. */
  readonly layers: readonly string[];
  readonly content: Buffer;
}

/** A disk of three layers, each with some of the content. */
async function makeChain(): Promise<Chain> {
  const folder = fs.realpathSync(scratchFolder());
  const base = path.join(folder, 'base');
  const content = Buffer.from(pattern(SIZE, 1));
  fs.writeFileSync(base, content);
  const layers: string[] = [];
  for (let index = 0; index < 3; index++) {
    const layer = path.join(folder, `layer${index}`);
    const below = layers.at(-1);
    if (below === undefined) createCow(layer, base);
    else {
      const mtime = Math.floor(fs.statSync(below).mtimeMs / 1000);
      createLayers([{ file: layer, below, mtime, sizeBytes: SIZE }]);
    }
    layers.push(layer);
    const disk = openDisk({
      device: 'ubd0',
      file: base,
      cow: layer,
      frozen: layers.slice(0, -1),
      readOnly: false,
    });
    for (let sector = index; sector < SIZE / SECTOR; sector += 7 + index) {
      const bytes = pattern(SECTOR, index * 10_000 + sector);
      await disk.write(sector * SECTOR, [bytes]);
      content.set(bytes, sector * SECTOR);
    }
    await disk.close();
  }
  return { folder, base, layers, content };
}

describe('a chain of layers', () => {
  it('is merged by uml_moo, one after the other', async () => {
    const moo = requireTool('uml_moo', 'uml-utilities');
    const { folder, layers, content } = await makeChain();
    let below: string | undefined;
    for (const [index, layer] of layers.entries()) {
      const merged = path.join(folder, `merged${index}`);
      if (below !== undefined) {
        const { backingMtime } = inspectCow(layer);
        fs.utimesSync(below, backingMtime, backingMtime);
      }
      execFileSync(moo, [...(below === undefined ? [] : ['-b', below]), layer, merged], { stdio: 'pipe' });
      below = merged;
    }
    expect(fs.readFileSync(below!).equals(content)).toBe(true);
  });

  it('is not taken for what it is not by uml_moo, which knows one layer', async () => {
    const moo = requireTool('uml_moo', 'uml-utilities');
    const { folder, layers } = await makeChain();
    const merge = (): unknown => execFileSync(moo, [layers[2]!, path.join(folder, 'out')], { stdio: 'pipe' });
    expect(merge).toThrow();
    expect(fs.existsSync(path.join(folder, 'out'))).toBe(false);
  });

  it('is merged and converted as a whole', async () => {
    const { folder, layers, content } = await makeChain();
    await mergeCow(layers[2]!, path.join(folder, 'merged'));
    expect(fs.readFileSync(path.join(folder, 'merged')).equals(content)).toBe(true);
    await convertDisk(layers[2]!, path.join(folder, 'converted'));
    expect(fs.readFileSync(path.join(folder, 'converted')).equals(content)).toBe(true);
    await expect(mergeCow(layers[2]!, layers[0]!)).rejects.toMatchObject({
      code: 'invalid_input',
      field: 'new',
    });
  });
});

/** A copy-on-write file with this header and nothing in it. */
function forge(file: string, backingPath: string, sizeBytes = SIZE, mtime = 1): void {
  const { bytes, header } = encodeCowHeader({ backingPath, backingMtime: mtime, sizeBytes });
  fs.writeFileSync(file, bytes);
  fs.truncateSync(file, header.dataOffset + Math.min(sizeBytes, SIZE));
  fs.utimesSync(file, 1, 1);
}

describe('a hostile chain', () => {
  const read = (file: string) => mergeCow(file, `${file}.out`);
  const inFolder = (): ((name: string) => string) => {
    const folder = fs.realpathSync(scratchFolder());
    fs.mkdirSync(path.join(folder, 'in'));
    return (name) => path.join(folder, 'in', name);
  };

  it('that goes in a circle is refused', async () => {
    const at = inFolder();
    forge(at('a'), at('b'));
    forge(at('b'), at('c'));
    forge(at('c'), at('a'));
    await expect(read(at('a'))).rejects.toMatchObject({ code: 'cow_backing_self' });
    forge(at('own'), at('own'));
    await expect(read(at('own'))).rejects.toMatchObject({ code: 'cow_backing_self' });
  });

  it('that leads out of the folder, by dots or links, is refused and tells nothing of what is there', async () => {
    const at = inFolder();
    const secret = path.join(path.dirname(path.dirname(at('x'))), 'secret');
    fs.writeFileSync(secret, Buffer.alloc(SIZE, 's'));
    fs.utimesSync(secret, 1, 1);
    for (const target of [
      `${path.dirname(at('x'))}/../secret`,
      `${path.dirname(at('x'))}/../none`,
      '/etc/shadow',
    ]) {
      forge(at('lower'), target);
      forge(at('upper'), at('lower'));
      await expect(read(at('upper'))).rejects.toMatchObject({ code: 'forbidden', field: 'backing_file' });
    }
    fs.symlinkSync(secret, at('link'));
    forge(at('lower'), at('link'));
    await expect(read(at('upper'))).rejects.toMatchObject({ code: 'forbidden' });
    // A layer elsewhere, too, if only by a link.
    const elsewhere = path.join(path.dirname(secret), 'layer');
    forge(elsewhere, secret);
    fs.symlinkSync(elsewhere, at('layer'));
    forge(at('upper'), at('layer'));
    await expect(read(at('upper'))).rejects.toMatchObject({ code: 'forbidden' });
    expect(fs.existsSync(at('upper.out'))).toBe(false);
  });

  it('of sizes that do not fit, or that no file has, is refused', async () => {
    const at = inFolder();
    fs.writeFileSync(at('base'), Buffer.alloc(SIZE));
    fs.utimesSync(at('base'), 1, 1);
    forge(at('lower'), at('base'), SIZE - SECTOR);
    forge(at('upper'), at('lower'));
    await expect(read(at('upper'))).rejects.toMatchObject({ code: 'cow_backing_changed', field: 'size' });
    forge(at('lower'), at('base'));
    const bytes = fs.readFileSync(at('lower'));
    for (const size of [0xffff_ffff_ffff_ffffn, 1n << 63n, 1n << 43n]) {
      bytes.writeBigUInt64BE(size, 12);
      fs.writeFileSync(at('lower'), bytes);
      await expect(read(at('lower'))).rejects.toMatchObject({ code: expect.stringMatching(/^cow_/) });
      await expect(read(at('upper'))).rejects.toMatchObject({ code: expect.stringMatching(/^cow_/) });
    }
  });

  it('of more files than anybody needs is refused', async () => {
    const at = inFolder();
    for (let index = 0; index < 300; index++) forge(at(`n${index}`), at(`n${index + 1}`));
    await expect(read(at('n0'))).rejects.toMatchObject({ code: 'unsupported' });
  });

  it('takes a raw file for what it is, whatever its guest has written to its start', async () => {
    const at = inFolder();
    fs.writeFileSync(at('secret'), Buffer.alloc(SIZE, 's'));
    forge(at('raw'), at('secret'));
    fs.truncateSync(at('raw'), SIZE);
    fs.utimesSync(at('raw'), 1, 1);
    forge(at('upper'), at('raw'));
    await read(at('upper'));
    expect(fs.readFileSync(at('upper.out')).equals(fs.readFileSync(at('raw')))).toBe(true);
  });
});
