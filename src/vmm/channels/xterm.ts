/** A console in a window of a terminal program on the host's X display (`xterm`). */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError } from '../../contracts/errors.ts';
import type { Xterm } from '../../uml/command-line.ts';
import type { ChannelContext, OpenChannel } from './channel.ts';
import { listen, serve } from './listener.ts';

export const XTERM: Xterm = { program: 'xterm', titleSwitch: '-T', execSwitch: '-e' };

// Run from source or from the built package.
const HELPER = fileURLToPath(
  new URL(`./xterm-helper${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
);

/** The window's program joins by a socket that only this user can reach. AppErrors: `tool_missing`, `invalid_input`. */
export async function openXterm(xterm: Xterm, context: ChannelContext): Promise<OpenChannel> {
  if (process.env.DISPLAY === undefined) {
    throw new AppError('invalid_input', 'there is no X display for an xterm', {
      field: 'channel',
      remedy: 'set DISPLAY where this program is started, or use pts',
    });
  }
  const folder = fs.mkdtempSync(path.join(tmpdir(), 'umlaut-xterm-'));
  const socket = path.join(folder, 'console');
  const { close: closeListener } = await listen({ path: socket }, (client) => serve(client, context));
  const { program, titleSwitch, execSwitch } = xterm;
  // The flags of V8 are this process's.
  const command = [process.execPath, ...process.execArgv, HELPER, socket];
  const child = spawn(program, [titleSwitch, context.title, execSwitch, ...command], { stdio: 'ignore' });
  let closed = false;
  const close = (): void => {
    if (closed) return;
    closed = true;
    closeListener();
    child.kill();
    fs.rmSync(folder, { recursive: true, force: true });
  };
  const ended = (why: string): void => {
    if (closed) return;
    close();
    context.ended(why);
  };
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (cause) => {
      close();
      reject(missing(program, cause));
    });
  });
  child.on('error', (error) => ended(error.message));
  child.once('exit', () => ended('its window was closed'));
  return { device: undefined, close };
}

function missing(program: string, cause: Error): AppError {
  return new AppError('tool_missing', `${program} cannot be started: ${cause.message}`, {
    field: 'channel',
    remedy:
      program === XTERM.program
        ? 'install the Debian package xterm'
        : 'name another with xterm=PROGRAM,-T,-e',
    cause,
  });
}
