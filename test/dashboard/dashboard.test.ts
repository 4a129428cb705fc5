/** The dashboard in a real browser. */
import { afterEach, describe, expect, it } from 'vitest';
import type { Vm } from '../../src/contracts/api/index.ts';
import { sampleVm } from '../../src/cli/testing/samples.ts';
import { findTool } from '../../src/images/tools.ts';
import { Browser } from './browser.ts';
import { FakeApi, TOKEN } from './fake-api.ts';

const chromium = findTool('chromium');
const CONTROL = 2;

let api: FakeApi | undefined;
let browser: Browser | undefined;
afterEach(async () => {
  await browser?.close();
  await api?.close();
  browser = undefined;
  api = undefined;
});

async function open(vms: Vm[]): Promise<{ page: Browser; server: FakeApi }> {
  api = await FakeApi.start(vms);
  browser = await Browser.start(chromium ?? '');
  await browser.open(api.url);
  await browser.until("document.activeElement?.id === 'token'");
  return { page: browser, server: api };
}

async function signIn(page: Browser, token = TOKEN): Promise<void> {
  await page.type(token);
  await page.evaluate("document.querySelector('#sign-in-form').requestSubmit()");
}

const click = (page: Browser, label: string): Promise<unknown> =>
  page.evaluate(`document.querySelector('[aria-label="${label}"]').click()`);
const text = (selector: string): string => `document.querySelector('${selector}').innerText`;
const rows = '[...document.querySelectorAll("#vm-rows tr")].map((row) => row.cells[0].innerText).join()';

describe.skipIf(chromium === undefined)('dashboard (needs chromium)', () => {
  it('asks for a token, refuses a wrong one, and lists the VMs for the right one', async () => {
    const { page } = await open([sampleVm(), sampleVm({ id: 'vm_2', name: 'db', state: 'halted' })]);
    await signIn(page, 'wrong');
    await page.until(`${text('#message')}.includes('not valid')`);
    expect(await page.evaluate("document.querySelector('#machines').hidden")).toBe(true);
    await signIn(page);
    await page.until(`${rows} === 'web-1,db'`);
    expect(await page.evaluate("sessionStorage.getItem('umlaut-token')")).toBe(TOKEN);
    expect(await page.evaluate('localStorage.length + document.cookie.length')).toBe(0);
    expect(await page.evaluate('location.href')).not.toContain(TOKEN);
    const labels = await page.evaluate(
      '[...document.querySelectorAll("#vm-rows button")].map((one) => one.ariaLabel).join()',
    );
    expect(labels).toBe(
      'Shut down web-1,Halt web-1,Freeze web-1,Console web-1,Start db,Console db,Delete db',
    );
    // The refused token is the only thing the browser complains of.
    expect(browser?.complaints.filter((complaint) => !complaint.includes('401'))).toEqual([]);
  });

  it('starts a VM, and follows what happens by itself, also after the connection broke', async () => {
    const { page, server } = await open([sampleVm({ state: 'halted' })]);
    await signIn(page);
    await page.until(`${rows} === 'web-1'`);
    await click(page, 'Start web-1');
    await expect.poll(() => server.asked).toContain('POST /v1/vms/vm_1/start');
    await expect.poll(() => server.listeners).toBe(1);
    server.vms[0] = sampleVm({ state: 'running' });
    server.tell('vm.state');
    await page.until(`${text('.state')} === 'running'`);
    server.drop();
    await page.until(`${text('#link')}.includes('trying again')`);
    await expect.poll(() => server.listeners, { timeout: 5000 }).toBe(1);
    expect(server.asked).toContain('WS /v1/events?ticket=e&after=1');
    await page.until(`${text('#link')} === ''`);
  });

  it('plays what was on a console, in the size that it had', async () => {
    const { page, server } = await open([sampleVm({ watch: ['tty'] })]);
    server.recording = [
      '{"version":2,"width":100,"height":30}',
      '[0,"o","first \\u001b[1mline\\u001b[0m\\r\\n"]',
      '[0.5,"i","typed"]',
      '[1,"r","60x20"]',
      '[900,"o","second line"]',
      '[900.1,"o","cut o',
    ].join('\n');
    await signIn(page);
    await page.until(`${rows} === 'web-1'`);
    await click(page, 'Recording web-1');
    const shown =
      '(document.querySelector("#recording-terminal .xterm-accessibility-tree")?.innerText ?? "")';
    const lines = 'document.querySelectorAll("#recording-terminal .xterm-accessibility-tree > div").length';
    await page.until(`${shown}.includes('first line')`);
    expect(server.asked).toContain('GET /v1/vms/vm_1/tty-log');
    // What is still to be drawn when it begins anew is not drawn over the beginning.
    await page.evaluate(`
      Object.assign(document.querySelector('#recording-speed'), { value: '0' }).dispatchEvent(new Event('change'));
      document.querySelector('#recording-again').click();
    `);
    await page.until(`${shown}.includes('second line') && ${lines} === 20`);
    expect(await page.evaluate(shown)).not.toContain('typed');
    expect(String(await page.evaluate(shown)).match(/first line|second line/g)).toEqual([
      'first line',
      'second line',
    ]);
    await page.until(`${text('#recording-state')} === 'That was all.'`);
    await page.evaluate("document.querySelector('#recording-again').click()");
    await page.until(`${shown}.includes('second line')`);
    await page.evaluate("document.querySelector('#recording-close').click()");
    expect(await page.evaluate("document.querySelector('#recording').hidden")).toBe(true);
  });

  it('creates a VM from the form, and shows why it could not', async () => {
    const { page, server } = await open([]);
    await signIn(page);
    await page.until("!document.querySelector('#no-vms').hidden && document.querySelector('option')");
    await page.evaluate("document.querySelector('#create-name').value = 'web-1'");
    await page.evaluate("document.querySelector('#create-form').requestSubmit()");
    await page.until(`${text('#message')} === 'The name is taken. Take another.'`);
    expect(server.bodies.at(-1)).toEqual({
      name: 'web-1',
      image: 'img_1',
      memory_bytes: 256 * 1024 * 1024,
      start: true,
    });
  });

  it('opens a console that can be typed into and left by keyboard', async () => {
    const { page, server } = await open([sampleVm()]);
    await signIn(page);
    await page.until(`${rows} === 'web-1'`);
    await click(page, 'Console web-1');
    await page.until("document.querySelector('.xterm-rows')?.innerText.includes('debian login:')");
    for (const key of 'root') await page.press(key);
    await expect.poll(() => server.typed.join('')).toBe('root');
    await page.until("document.querySelector('.xterm-rows').innerText.includes('login: root')");
    await page.press(']', CONTROL);
    await page.until("document.activeElement.id === 'console-close'");
    await page.evaluate('document.activeElement.click()');
    expect(await page.evaluate("document.querySelector('#console').hidden")).toBe(true);
    expect(browser?.complaints).toEqual([]);
  });

  it('fits a narrow screen, and takes text from guests as text', async () => {
    const name = 'a'.repeat(63);
    const cause = { code: 'machine_failed' as const, detail: '<img src=x onerror=alert(1)>' };
    const { page } = await open([sampleVm({ name, state: 'failed', cause })]);
    await page.resize(360, 700);
    await signIn(page);
    await page.until(`${rows} === '${name}'`);
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(360);
    expect(await page.evaluate(text('.cause'))).toBe(cause.detail);
  });
});
