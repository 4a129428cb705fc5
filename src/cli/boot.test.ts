import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseDisk, parseNic, parsePort } from './boot-options.ts';

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));

/** A multiboot kernel that prints "hi" on the first serial port and then runs `code`. */
function kernel(code: string): Buffer {
  const header = Uint32Array.of(
    0x1bad_b002,
    0x1_0000,
    -(0x1bad_b002 + 0x1_0000),
    0x20_0000,
    0x20_0000,
    0,
    0,
    0x20_0020,
  );
  const hi = '66baf803b068eeb069ee';
  return Buffer.concat([Buffer.from(header.buffer), Buffer.from(hi + code, 'hex'), Buffer.alloc(64)]);
}
const KERNELS = {
  // mov dx,604; mov ax,2000; out dx,ax; hlt
  off: kernel('66ba040666b8002066eff4'),
  // mov eax,11h; out f4h,eax; hlt
  exit: kernel('b811000000e7f4f4'),
  // lidt [200070]; int3
  fault: kernel('0f011d70002000cc'),
};

let folder: string;
const path = (name: string): string => join(folder, name);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'boot-'));
  for (const [name, bytes] of Object.entries(KERNELS)) writeFileSync(path(name), bytes);
  writeFileSync(path('text'), 'no kernel at all\n'.repeat(100));
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}
function boot(...args: string[]): Promise<Outcome> {
  const child = spawn(process.execPath, [MAIN, 'boot', '--memory', '8M', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (bytes: Buffer) => (stdout += bytes.toString()));
  child.stderr.on('data', (bytes: Buffer) => (stderr += bytes.toString()));
  return new Promise((resolve) => void child.once('close', (status) => resolve({ status, stdout, stderr })));
}

test('a power-off ends with 0, and statistics are written', async () => {
  const { status, stdout } = await boot('--kernel', path('off'), '--stats', path('stats.json'));
  expect({ status, stdout }).toEqual({ status: 0, stdout: 'hi' });
  const stats = JSON.parse(readFileSync(path('stats.json'), 'utf8'));
  expect(stats.instructions).toBeGreaterThan(5);
  expect(stats.wall_seconds).toBeGreaterThan(0);
  expect(stats.cpu_seconds).toBeGreaterThan(0);
  expect(stats.peak_memory_bytes).toBeGreaterThan(1 << 20);
});

test('a debug exit gives its status', async () => {
  const { status, stdout } = await boot('--kernel', path('exit'), '--debug-exit', '0xf4');
  expect({ status, stdout }).toEqual({ status: 0x23, stdout: 'hi' });
});

test('a triple fault ends with 1 and the registers', async () => {
  const { status, stdout, stderr } = await boot('--kernel', path('fault'));
  expect({ status, stdout }).toEqual({ status: 1, stdout: 'hi' });
  expect(stderr).toMatch(/triple fault[\s\S]*rip/);
});

test.each([
  ['a file that is no kernel', ['--kernel', 'text'], /no kernel.*vmlinuz/],
  ['a missing kernel', ['--kernel', 'missing'], /missing/],
  ['a missing disk', ['--kernel', 'off', '--disk', 'missing'], /missing/],
  ['an unknown transport', ['--kernel', 'off', '--nic', 'lan'], /network=NAME/],
  ['too little memory', ['--kernel', 'off', '--memory', '64K'], /at least 2M/],
])('%s ends with 2', async (_name, args, message) => {
  const [, kernelName, flag, value] = args as [string, string, string?, string?];
  const more =
    flag === undefined || value === undefined ? [] : [flag, flag === '--disk' ? path(value) : value];
  const { status, stderr } = await boot('--kernel', path(kernelName), ...more);
  expect(status).toBe(2);
  expect(stderr).toMatch(message);
});

test('options are read, and wrong ones refused with the right form', () => {
  expect(parseDisk('a.img,cow=b.cow', parseDisk('c.img,readonly'))).toEqual([
    { file: 'c.img', cow: undefined, readOnly: true },
    { file: 'a.img', cow: 'b.cow', readOnly: false },
  ]);
  expect(() => parseDisk('a.img,cow=b,readonly')).toThrow(/leave out/);
  expect(() => parseDisk('a.img,fast')).toThrow(/cow=FILE/);
  expect(parseNic('network=lan', parseNic('none'))).toEqual([{ network: 'lan' }]);
  expect(parseNic('nat')).toEqual([{ transport: 'nat' }]);
  expect(() => parseNic('network=a b')).toThrow(/network=NAME/);
  expect([parsePort('0xf4'), parsePort('244')]).toEqual([0xf4, 0xf4]);
  expect(() => parsePort('70000')).toThrow(/0xf4/);
});
