/**
 * How fast disk files are merged and converted, next to uml_moo and qemu-img where they are installed. Run with
 * `node bench/storage.bench.ts [MiB] [folder]`. A quarter of the disk is holes, half is text, a quarter is random; every
 * tenth 64 KiB are in the COW file. Each line is the best of three runs, files in the page cache.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { convertDisk, createCow, mergeCow, mergeCowIntoBacking, openDisk } from '../src/storage/index.ts';

const RUNS = 3;
const MIB = 1 << 20;
const CHUNK = 65_536;

const sizeMib = Number(process.argv[2] ?? 512);
const folder = fs.mkdtempSync(path.join(process.argv[3] ?? os.tmpdir(), 'umlaut-bench-'));
const file = (name: string): string => path.join(folder, name);
const [raw, cow, out] = [file('disk.raw'), file('disk.cow'), file('out')];

function makeDisk(): void {
  const fd = fs.openSync(raw, 'w');
  fs.ftruncateSync(fd, sizeMib * MIB);
  const text = Buffer.alloc(MIB, 'the quick brown fox jumps over the lazy dog, line after line\n');
  for (let at = 0; at < sizeMib; at++) {
    if (at % 4 === 0) continue;
    fs.writeSync(fd, at % 4 === 1 ? randomBytes(MIB) : text, 0, MIB, at * MIB);
  }
  fs.closeSync(fd);
}

async function makeCow(): Promise<void> {
  createCow(cow, raw);
  const disk = openDisk({ device: 'ubd0', file: raw, cow, readOnly: false });
  for (let at = 0; at < disk.sizeBytes; at += 10 * CHUNK) await disk.write(at, [randomBytes(CHUNK)]);
  await disk.close();
}

async function report(name: string, work: () => Promise<void> | void, prepare?: () => void): Promise<void> {
  let best = Number.POSITIVE_INFINITY;
  for (let run = 0; run < RUNS; run++) {
    fs.rmSync(out, { force: true });
    prepare?.();
    const begun = performance.now();
    await work();
    best = Math.min(best, performance.now() - begun);
  }
  const size = fs.existsSync(out) ? `  ${Math.round(fs.statSync(out).size / MIB)} MiB` : '';
  const rate = Math.round(sizeMib / (best / 1000));
  process.stdout.write(`${name.padEnd(40)} ${String(rate).padStart(6)} MiB/s${size}\n`);
}

/** Nothing where the program is missing. */
async function reportTool(tool: string, args: readonly string[], prepare?: () => void): Promise<void> {
  if (spawnSync(tool, ['--help'], { stdio: 'ignore' }).error !== undefined) return;
  const run = (): void => {
    const { status, stderr } = spawnSync(tool, args);
    if (status !== 0) throw new Error(`${tool}: ${String(stderr)}`);
  };
  await report(`  ${tool}`, run, prepare);
}

const { atime, mtime } = ((): fs.Stats => {
  makeDisk();
  return fs.statSync(raw);
})();
try {
  await makeCow();
  const backing = file('backing.raw');
  const freshBacking = (): void => {
    fs.copyFileSync(raw, backing);
    fs.utimesSync(backing, atime, mtime);
  };
  await report('moo to a new file', () => mergeCow(cow, out));
  await reportTool('uml_moo', [cow, out]);
  await report('moo -d', async () => void (await mergeCowIntoBacking(cow, { backing })), freshBacking);
  await reportTool('uml_moo', ['-d', '-b', backing, cow], freshBacking);
  for (const compression of [undefined, 'zlib', 'zstd'] as const) {
    const how = compression ?? 'uncompressed';
    const made = file(`${how}.qcow2`);
    const asked = compression === undefined ? [] : ['-c', '-o', `compression_type=${compression}`];
    await report(`raw to qcow2, ${how}`, () => convertDisk(raw, out, { qcow2: { version: 3, compression } }));
    await reportTool('qemu-img', ['convert', '-O', 'qcow2', ...asked, raw, out]);
    await convertDisk(raw, made, { qcow2: { version: 3, compression } });
    await report(`qcow2 to raw, ${how}`, () => convertDisk(made, out));
    await reportTool('qemu-img', ['convert', '-O', 'raw', made, out]);
  }
} finally {
  fs.rmSync(folder, { recursive: true });
}
