/** Chromium without a window, driven by its DevTools protocol (https://chromedevtools.github.io/devtools-protocol). */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import WebSocket from 'ws';

const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--remote-debugging-port=0',
];

interface Reply {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

export class Browser {
  readonly #process: ChildProcess;
  readonly #profile: string;
  readonly #socket: WebSocket;
  readonly #pending = new Map<number, (reply: Reply) => void>();
  #session: string | undefined;
  #lastId = 0;
  /** Exceptions, console errors and refusals by the content security policy. */
  readonly complaints: string[] = [];

  private constructor(process: ChildProcess, profile: string, socket: WebSocket) {
    this.#process = process;
    this.#profile = profile;
    this.#socket = socket;
    socket.on('message', (data: Buffer) => this.#receive(JSON.parse(data.toString('utf8'))));
  }

  static async start(chromium: string): Promise<Browser> {
    const profile = mkdtempSync(join(tmpdir(), 'umlaut-chromium-'));
    const child = spawn(chromium, [...FLAGS, `--user-data-dir=${profile}`], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const socket = new WebSocket(await debuggerAddress(child));
    await once(socket, 'open');
    return new Browser(child, profile, socket);
  }

  async open(url: string): Promise<void> {
    const { targetId } = await this.#send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.#send('Target.attachToTarget', { targetId, flatten: true });
    this.#session = String(sessionId);
    for (const domain of ['Page', 'Runtime', 'Log']) await this.#send(`${domain}.enable`);
    await this.#send('Page.navigate', { url });
  }

  /** The value of an expression in the page. */
  async evaluate(expression: string): Promise<unknown> {
    const options = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.#send('Runtime.evaluate', options);
    if (exceptionDetails !== undefined) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return (result as { value?: unknown }).value;
  }

  /** Resolves when the expression is true in the page; looks again with every frame. */
  async until(condition: string): Promise<void> {
    await this.evaluate(`new Promise((resolve, reject) => {
      const end = performance.now() + 10000;
      const look = () => {
        if (${condition}) resolve();
        else if (performance.now() > end) reject(new Error('not within 10 s; page: ' + document.body.innerText));
        else setTimeout(look, 16);
      };
      look();
    })`);
  }

  /** As an input method or a paste does it, without keys. */
  async type(text: string): Promise<void> {
    await this.#send('Input.insertText', { text });
  }

  /** One key; `modifiers` as the protocol counts them (2 is Control). */
  async press(key: string, modifiers = 0): Promise<void> {
    const text = modifiers === 0 && key.length === 1 ? { text: key } : {};
    await this.#send('Input.dispatchKeyEvent', { type: 'keyDown', key, modifiers, ...text });
    await this.#send('Input.dispatchKeyEvent', { type: 'keyUp', key, modifiers });
  }

  async resize(width: number, height: number): Promise<void> {
    const metrics = { width, height, deviceScaleFactor: 1, mobile: false };
    await this.#send('Emulation.setDeviceMetricsOverride', metrics);
  }

  /** A PNG of what is to be seen. */
  async screenshot(): Promise<Buffer> {
    const { data } = await this.#send('Page.captureScreenshot', { captureBeyondViewport: true });
    return Buffer.from(String(data), 'base64');
  }

  async close(): Promise<void> {
    const exit = once(this.#process, 'exit');
    this.#socket.terminate();
    this.#process.kill('SIGKILL');
    await exit;
    // Helper processes of Chromium may write for a moment longer.
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 10 });
  }

  #send(method: string, params: object = {}): Promise<Record<string, unknown>> {
    this.#lastId += 1;
    const id = this.#lastId;
    this.#socket.send(JSON.stringify({ id, method, params, sessionId: this.#session }));
    return new Promise((resolve, reject) => {
      this.#pending.set(id, ({ result, error }) => {
        if (error === undefined) resolve(result ?? {});
        else reject(new Error(`${method}: ${error.message}`));
      });
    });
  }

  #receive(reply: Reply): void {
    if (reply.id !== undefined) {
      this.#pending.get(reply.id)?.(reply);
      this.#pending.delete(reply.id);
    } else if (reply.method === 'Runtime.exceptionThrown') {
      this.complaints.push(JSON.stringify(reply.params));
    } else if (reply.method === 'Log.entryAdded') {
      const entry = reply.params?.entry as { level: string; source: string; text: string; url?: string };
      // INVARIANT: as the protocol defines Log.LogEntry
      const { level, source, text, url } = entry;
      if (level === 'error' || source === 'security') this.complaints.push(`${source}: ${text} ${url ?? ''}`);
    }
  }
}

async function debuggerAddress(child: ChildProcess): Promise<string> {
  if (child.stderr === null) throw new Error('no standard error');
  for await (const line of createInterface(child.stderr)) {
    const [, address] = /^DevTools listening on (ws:\S+)/.exec(line) ?? [];
    if (address !== undefined) {
      child.stderr.resume();
      return address;
    }
  }
  throw new Error('Chromium ended before it listened');
}
