/** Programs of the host that building an image needs. */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { AppError } from '../contracts/errors.ts';

/** Also where ordinary users have no PATH entry: mke2fs is in /sbin. */
const EXTRA_FOLDERS = ['/usr/sbin', '/sbin', '/usr/bin', '/bin'];
/** What is kept of a program's output for an error message. */
const OUTPUT_TAIL_BYTES = 4000;

/** The absolute path of a program, or undefined. */
export function findTool(name: string): string | undefined {
  const folders = [
    ...(process.env.PATH ?? '').split(':').filter((folder) => folder !== ''),
    ...EXTRA_FOLDERS,
  ];
  return folders.map((folder) => path.join(folder, name)).find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    fs.accessSync(file, fs.constants.X_OK);
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}

/** As `findTool`; AppError `tool_missing` names the Debian package that has it. */
export function needTool(name: string, debianPackage: string): string {
  const file = findTool(name);
  if (file !== undefined) return file;
  throw new AppError('tool_missing', `the program ${name} is not installed`, {
    field: 'tool',
    remedy: `install it (Debian package ${debianPackage}), or import a ready image with \`umlaut image import\``,
  });
}

export interface RunOptions {
  readonly cwd?: string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Given to the program's standard input. */
  readonly input?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Runs a program to its end and gives its standard output. AppErrors: `job_failed` with the end of its output, `canceled`. */
export function runTool(file: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      cwd: options.cwd,
      env: { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive', ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      signal: options.signal,
    });
    let output = '';
    let messages = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      messages = (messages + text).slice(-OUTPUT_TAIL_BYTES);
    });
    // A program that ends before it has read all of its input is judged by its status.
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.input ?? '');
    child.on('error', (error) => reject(failure(file, args, error.message, options.signal, error)));
    child.on('close', (status, killedBy) => {
      if (status === 0) resolve(output);
      else
        reject(
          failure(
            file,
            args,
            `${killedBy ?? `status ${status}`}: ${(messages || output).slice(-OUTPUT_TAIL_BYTES).trim()}`,
            options.signal,
          ),
        );
    });
  });
}

function failure(
  file: string,
  args: readonly string[],
  detail: string,
  signal: AbortSignal | undefined,
  cause?: unknown,
): AppError {
  if (signal?.aborted)
    return new AppError('canceled', 'the image build was cancelled', { field: 'image', cause });
  const command = [path.basename(file), ...args].join(' ').slice(0, 200);
  return new AppError('job_failed', `${command} failed: ${detail}`, {
    field: 'image',
    remedy:
      'see the message; with no network or no Debian host, import a ready image with `umlaut image import`',
    cause,
  });
}
