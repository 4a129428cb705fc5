/** Programs of Debian, as a user runs them: each once, from a disk, without a warm-up. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError } from '../../src/contracts/errors.ts';
import { type DebianGuest, debianGuest, debianInitrd } from '../../test/support/debian-guest.ts';
import { parseTiming, type Sample, Samples, table, type Timing } from '../figures.ts';
import type { BenchKit } from '../kit.ts';
import { NO_COMPILER } from './compute.ts';
import { inTurns, type Part } from './part.ts';

const MEMORY_MIB = 512;
const TEXT_BYTES = 4 << 20;
const LINES = 150_000;
/** Operations whose time is given, of the rates that `openssl speed` measures. */
const OPENSSL_OPERATIONS = { sha256: 100e6, 'aes-128-cbc': 100e6, rsa2048: 100 } as const;

/** Commands by name; `timer` prints their time. */
const COMMANDS: Readonly<Record<string, string>> = {
  gzip: 'timer gzip out gzip -nc text',
  sha256sum: 'timer sha256sum out sha256sum text text text text text',
  openssl: 'openssl speed -mr -seconds 1 -bytes 8192 sha256 aes-128-cbc rsa2048 2>&1',
  python3: 'timer python3 out python3 work.py',
  sqlite3: 'timer sqlite3 out sqlite3 -init work.sql :memory: .quit',
  gcc: 'timer gcc suite.o gcc -O2 -c -o suite.o suite.c',
  sort: 'timer sort out sort lines',
};

/** Numbers that look random and are the same everywhere (xorshift). */
function* numbers(): Generator<number> {
  for (let x = 2463534242; ; ) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    yield x >>> 0;
  }
}

/** Words of a small vocabulary, the frequent ones more often. */
function text(): Buffer {
  const random = numbers();
  const next = (): number => random.next().value!;
  const words = Array.from({ length: 3000 }, () => (next() % 1e9).toString(36));
  let out = '';
  while (out.length < TEXT_BYTES) {
    const rank = Math.floor(words.length ** ((next() % 10_000) / 10_000));
    out += `${words[rank % words.length]}${next() % 12 === 0 ? '\n' : ' '}`;
  }
  return Buffer.from(out);
}

function lines(): Buffer {
  const random = numbers();
  return Buffer.from(Array.from({ length: LINES }, () => `${random.next().value!.toString(36)}\n`).join(''));
}

function inputs(timer: string): Record<string, Uint8Array> {
  const file = (name: string): Buffer =>
    fs.readFileSync(fileURLToPath(new URL(`../${name}`, import.meta.url)));
  return {
    timer: fs.readFileSync(timer),
    text: text(),
    lines: lines(),
    'work.py': file('programs/work.py'),
    'work.sql': file('programs/work.sql'),
    'suite.c': file('compute/suite.c'),
  };
}

function script(programs: readonly string[]): string {
  const unknown = programs.filter((name) => COMMANDS[name] === undefined);
  const chosen = programs.length === unknown.length ? Object.keys(COMMANDS) : programs;
  const commands = chosen.flatMap((name) => (COMMANDS[name] === undefined ? [] : [COMMANDS[name]]));
  return ['chmod +x timer', 'PATH=/tmp:$PATH', ...commands].join('\n');
}

/** `openssl speed -mr` gives bytes or operations per second. They become the time of a fixed amount. */
function opensslTime(output: string): Sample | undefined {
  const rate = (pattern: RegExp): number | undefined => {
    const match = pattern.exec(output);
    return match === null ? undefined : Number(match[1]);
  };
  const hash = rate(/^\+F:\d+:sha256:([0-9.]+)/m);
  const cipher = rate(/^\+F:\d+:[Aa][Ee][Ss]-128-[Cc][Bb][Cc]:([0-9.]+)/m);
  const sign = rate(/^\+F2:\d+:2048:([0-9.]+)/m);
  if (hash === undefined || cipher === undefined || sign === undefined) return undefined;
  const seconds = [
    OPENSSL_OPERATIONS.sha256 / hash,
    OPENSSL_OPERATIONS['aes-128-cbc'] / cipher,
    OPENSSL_OPERATIONS.rsa2048 / sign,
  ];
  return { seconds: Math.cbrt(seconds.reduce((product, one) => product * one, 1)), result: '0' };
}

function parse(output: string): Timing {
  if (/^\S+ failed with status/m.test(output)) throw new Error(output.slice(-2000));
  const openssl = opensslTime(output);
  const others = /^[a-z0-9]+ [0-9.]+ [0-9a-f]+\r?$/m.test(output)
    ? parseTiming(output)
    : new Map<string, Sample>();
  return new Map([...others, ...(openssl === undefined ? [] : [['openssl', openssl] as const])]);
}

/** The same on the bare processor: needs root, to change to the guest's root folder. */
function native(
  guest: DebianGuest,
  files: Readonly<Record<string, Uint8Array>>,
  commands: string,
): Timing | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const folder = fs.mkdtempSync(join(guest.root, 'tmp/bench-'));
  try {
    for (const [name, content] of Object.entries(files)) fs.writeFileSync(join(folder, name), content);
    const inside = folder.slice(guest.root.length);
    const text = `cd ${inside}; export PATH=/usr/bin LC_ALL=C HOME=${inside}; ${commands.replace('/tmp:', `${inside}:`)}`;
    const { stdout } = spawnSync('chroot', [guest.root, '/bin/sh', '-c', text], { encoding: 'latin1' });
    return parse(stdout);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

async function openGuest(note: (text: string) => void): Promise<DebianGuest | string> {
  try {
    return await debianGuest(note);
  } catch (error) {
    if (error instanceof AppError) return `Not run: ${error.message}`;
    throw error;
  }
}

const timerOf = (kit: BenchKit): string | undefined => kit.compile('timer', 'bench/programs/timer.c');

export const programs: Part = {
  name: 'programs',
  title: 'Programs of Debian',
  async run(context) {
    const { kit, runs, note } = context;
    const timer = timerOf(kit);
    if (timer === undefined) return NO_COMPILER;
    const guest = await openGuest(note);
    if (typeof guest === 'string') return guest;
    const files = inputs(timer);
    const commands = script(context.programs);
    const initrd = await debianInitrd(guest, 'programs', commands, files);
    const samples = new Samples();
    try {
      for (let run = 1; run <= runs; run++) {
        note(`programs: native, run ${run} of ${runs}`);
        const timing = native(guest, files, commands);
        if (timing !== undefined) samples.add('native', timing);
      }
      await inTurns(context, 'programs', (engine) => {
        const options = {
          kernel: guest.kernel,
          initrd,
          memoryMib: MEMORY_MIB,
          disks: [{ file: guest.disk }],
        };
        samples.add(engine, parse(kit.run(engine, options)));
      });
    } finally {
      fs.rmSync(initrd);
    }
    return [
      `With ${MEMORY_MIB} MiB, from a disk, each program once and without a warm-up. openssl: the geometric mean of the times for 100 MB of SHA-256, 100 MB of AES-128-CBC and 100 RSA-2048 signatures, by the rates of \`openssl speed\`.`,
      '',
      table(samples.rows),
    ].join('\n');
  },
};
