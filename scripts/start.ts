/**
 * `npm start`: the daemon in the foreground, with the default image and a demo VM when there is nothing yet.
 * Options: --home FOLDER, --host ADDRESS, --port PORT.
 */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Client } from '../src/cli/client.ts';
import { portOf } from '../src/cli/commands/daemon.ts';
import { DEFAULT_URL, defaultHome, defaultUmlDir } from '../src/cli/home.ts';
import { followOperation } from '../src/cli/progress.ts';
import type { Image, Vm } from '../src/contracts/api/index.ts';
import { toAppError } from '../src/contracts/errors.ts';
import { ROOT_PASSWORD } from '../src/images/index.ts';
import { startDaemon } from '../src/main.ts';

const DEMO = 'demo';
const root = fileURLToPath(new URL('..', import.meta.url));

interface Options {
  readonly home: string;
  readonly host: string | undefined;
  readonly port: number | undefined;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: { home: { type: 'string' }, host: { type: 'string' }, port: { type: 'string' } },
  });
  const env = { ...process.env, ...(values.port !== undefined && { UMLAUT_PORT: values.port }) };
  return {
    home: resolve(values.home ?? defaultHome(env)),
    host: values.host ?? (process.env.UMLAUT_HOST || undefined),
    port: portOf(env),
  };
}

/** The image of that name, built when there is none. Without it the daemon still runs, and says why. */
async function ensureImage(client: Client): Promise<Image | undefined> {
  const [existing] = await client.listImages({ name: 'default' });
  if (existing !== undefined) return existing;
  console.log('There is no image yet: building the default guest from Debian packages.');
  try {
    await followOperation(client, await client.buildImage({ name: 'default' }), process.stderr);
  } catch (error) {
    report(error);
    console.error('The daemon runs on without an image; try again with: umlaut image build');
    return undefined;
  }
  return client.getImage('default');
}

/** A first VM, where there is none at all; one that was deleted does not come back while others are there. */
async function ensureDemo(client: Client): Promise<void> {
  const vms = await client.listVms();
  if (vms.length > 0) return;
  await client.createVm({ name: DEMO });
  console.log(`Made the VM ${DEMO}; booting it.`);
  try {
    await followOperation(client, await client.startVm(DEMO), process.stderr);
  } catch (error) {
    report(error);
  }
}

function command(text: string, { home }: Options, url: string): string {
  const environment = home === join(root, 'var') ? '' : `UMLAUT_HOME=${home} `;
  const address = url === DEFAULT_URL ? '' : ` --url ${url}`;
  return `  ${environment}./bin/umlaut.mjs ${text}${address}`;
}

function welcome(options: Options, url: string, vms: readonly Vm[]): string {
  const name = (vms.find((vm) => vm.name === DEMO) ?? vms[0])?.name ?? DEMO;
  const list = vms.map((vm) => `${vm.name} (${vm.state})`).join(', ');
  return `
API          ${url}/v1, described at ${url}/openapi.json
Dashboard    ${url}/
Admin token  ${join(options.home, 'admin-token')}
VMs          ${list === '' ? 'none yet' : list}

Try next, in another terminal:
${command('vm list', options, url)}
${command(`console ${name}`, options, url)}    # log in as root, password ${ROOT_PASSWORD}; Ctrl-] leaves
${command(`backup create ${name}`, options, url)}

Ctrl-C ends the daemon; VMs that run now boot again at the next start.
`;
}

function report(error: unknown): void {
  const known = toAppError(error);
  console.error(`error: ${known.detail}${known.remedy === undefined ? '' : `\n  remedy: ${known.remedy}`}`);
}

async function start(): Promise<void> {
  const options = readOptions();
  const daemon = await startDaemon({ ...options, umlDir: defaultUmlDir(process.env) });
  const ended = new Promise<void>((settle) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => settle());
  });
  const token = readFileSync(join(options.home, 'admin-token'), 'utf8').trim();
  const client = new Client({ url: daemon.url, token });
  const ready = async (): Promise<void> => {
    const image = await ensureImage(client);
    if (image !== undefined) await ensureDemo(client);
    console.log(welcome(options, daemon.url, await client.listVms()));
    await ended;
  };
  // A signal during the image build ends the daemon too, and the build with it.
  await Promise.race([ready(), ended]);
  await daemon.close();
}

try {
  await start();
} catch (error) {
  report(error);
  process.exitCode = 1;
}
