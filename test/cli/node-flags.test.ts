/** A program computes the same whenever it is started, with Node's cache of compiled code and without. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { NODE_FLAGS } from '../../bin/launch.mjs';

/**
 * Reads numbers of one or more bytes, by a closure that moves the variable that its surroundings move too. Without
 * --no-function-context-cells V8's optimizing compilers get it wrong, most often at a start with the cache.
 */
const PROGRAM = `
function decode(packed, out) {
  let to = 0;
  let at = 0;
  const longLength = (start) => {
    let length = start;
    if (start !== 15) return length;
    for (;;) {
      const byte = packed[at++];
      if (byte === undefined) throw new RangeError('end');
      length += byte;
      if (byte !== 255) return length;
    }
  };
  while (at < packed.length) {
    const token = packed[at++];
    const literals = longLength(token >>> 4);
    if (literals > 16) out.set(packed.subarray(at, at + literals), to);
    else for (let i = 0; i < literals; i++) out[to + i] = packed[at + i];
    at += literals;
    to += literals;
    if (at === packed.length) break;
    const distance = packed[at] | (packed[at + 1] << 8);
    at += 2;
    const length = longLength(token & 15) + 4;
    if (distance === 0 || distance > to) throw new RangeError('distance');
    if (distance >= length && length > 32) out.copyWithin(to, to - distance, to - distance + length);
    else for (let i = 0; i < length; i++) out[to + i] = out[to - distance + i];
    to += length;
  }
  return to;
}
function block(part) {
  const bytes = [];
  for (let n = 0; n < 120_000; n++) {
    const literals = n % 5 === 0 ? 15 + (n % 20) : 1 + (n % 14);
    bytes.push((Math.min(literals, 15) << 4) | (n % 16));
    if (literals >= 15) bytes.push(literals - 15);
    for (let i = 0; i < literals; i++) bytes.push((n * 31 + i * 7 + part) & 255);
    bytes.push(1 + (n % literals), 0);
    if (n % 16 === 15) bytes.push(n % 255);
  }
  bytes.push(0x10, part);
  return Uint8Array.from(bytes);
}
const out = new Uint8Array(1 << 24);
let hash = 0;
for (let part = 0; part < 6; part++) {
  const length = decode(block(part), out);
  for (let i = 0; i < length; i++) hash = (Math.imul(hash, 31) + out[i]) | 0;
}
console.log(hash);
`;

test('a program that starts again computes the same', { timeout: 120_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'umlaut-flags-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const [program, cache] = [join(folder, 'program.mjs'), join(folder, 'cache')];
  writeFileSync(program, PROGRAM);
  const run = (flags: readonly string[], more: Record<string, string>): string => {
    const env = { ...process.env, NODE_OPTIONS: '', ...more };
    const { status, stdout, stderr } = spawnSync(process.execPath, [...flags, program], {
      encoding: 'utf8',
      env,
    });
    expect(status, stderr).toBe(0);
    return stdout;
  };
  const without = { NODE_DISABLE_COMPILE_CACHE: '1' };
  const expected = run(['--no-opt', '--no-maglev'], without);
  expect(run(NODE_FLAGS, without)).toBe(expected);
  for (let start = 0; start < 3; start++)
    expect(run(NODE_FLAGS, { NODE_COMPILE_CACHE: cache })).toBe(expected);
  expect(readdirSync(cache)).toHaveLength(1);
});
