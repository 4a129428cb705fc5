import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { MachineConfig } from '../contracts/machine.ts';
import type { FromMachine, MachineRequest, ToMachine } from '../contracts/ports.ts';
import { backupPlan, storeIn } from '../storage/testing/store-kit.ts';

/**
 * A multiboot kernel: prints ">", then echoes what comes on the first serial port. "q" powers off,
 * "t" makes a triple fault.
 */
const KERNEL = Buffer.concat([
  Buffer.from(
    Uint32Array.of(0x1bad_b002, 0x1_0000, -(0x1bad_b002 + 0x1_0000), 0x20_0000, 0x20_0000, 0, 0, 0x20_0020)
      .buffer,
  ),
  Buffer.from(
    '66baf803b03eee' + // mov dx,3f8; mov al,'>'; out dx,al
      '66bafd03eca80174f7' + // poll: mov dx,3fd; in al,dx; test al,1; jz poll
      '66baf803ec3c7174073c747410' + // mov dx,3f8; in al,dx; 'q' → off, 't' → fault
      'eeebe7' + // out dx,al; jmp poll
      '66ba040666b8002066eff4ebfd' + // off: mov dx,604; mov ax,2000; out dx,ax; hlt
      '0f011d70002000cc', // fault: lidt [zeros]; int3
    'hex',
  ),
  Buffer.alloc(64),
]);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'machine-worker-'));
  writeFileSync(join(folder, 'kernel'), KERNEL);
  writeFileSync(join(folder, 'disk'), Buffer.alloc(1 << 20, 0x5a));
});
afterAll(() => rmSync(folder, { recursive: true }));

class Vm {
  readonly #worker: Worker;
  readonly #waiting: { matches: (message: FromMachine) => boolean; found: (message: FromMachine) => void }[] =
    [];
  readonly messages: FromMachine[] = [];
  readonly exited: Promise<number>;
  console = '';
  #nextId = 1;

  constructor(changes: Partial<MachineConfig> = {}) {
    const config: MachineConfig = {
      name: 'test',
      memoryBytes: 8 << 20,
      kernel: join(folder, 'kernel'),
      append: '',
      disks: [],
      nics: [],
      ...changes,
    };
    this.#worker = new Worker(new URL('./machine-worker.ts', import.meta.url), {
      workerData: { config, nicRings: [] },
      execArgv: [],
    });
    this.exited = new Promise((resolve) => void this.#worker.once('exit', resolve));
    this.#worker.on('message', (message: FromMachine) => this.#take(message));
  }

  #take(message: FromMachine): void {
    this.messages.push(message);
    if (message.type === 'console-output') this.console += Buffer.from(message.bytes).toString('latin1');
    for (const waiter of this.#waiting.splice(0)) {
      if (waiter.matches(message)) waiter.found(message);
      else this.#waiting.push(waiter);
    }
  }

  next(matches: (message: FromMachine) => boolean): Promise<FromMachine> {
    return new Promise((found) => void this.#waiting.push({ matches, found }));
  }
  async ended(): Promise<FromMachine> {
    return this.messages.find(({ type }) => type === 'ended') ?? this.next(({ type }) => type === 'ended');
  }
  async prints(text: string): Promise<void> {
    while (!this.console.includes(text)) await this.next(({ type }) => type === 'console-output');
  }
  send(message: ToMachine): void {
    this.#worker.postMessage(message);
  }
  type(text: string): void {
    this.send({ type: 'console-input', console: 'ttyS0', bytes: Buffer.from(text) });
  }
  async request(request: MachineRequest): Promise<FromMachine> {
    const id = this.#nextId++;
    const reply = this.next((message) => 'id' in message && message.id === id);
    this.send({ type: 'request', id, request });
    return reply;
  }
  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }
}

let vm: Vm;
afterEach(() => vm.terminate());

test('a guest runs, echoes, and powers off', async () => {
  vm = new Vm();
  await vm.prints('>');
  expect(vm.messages[0]).toEqual({ type: 'started' });
  const text = 'a'.repeat(100);
  vm.type(text);
  await vm.prints(text);
  vm.type('q');
  expect(await vm.ended()).toEqual({ type: 'ended', end: { reason: 'power-off' } });
  expect(await vm.exited).toBe(0);
});

test('stop freezes the guest, go resumes it, and each refuses what is so already', async () => {
  vm = new Vm();
  await vm.prints('>');
  expect(await vm.request({ type: 'go' })).toMatchObject({ type: 'reply-error', code: 'not-stopped' });
  expect((await vm.request({ type: 'stop' })).type).toBe('reply');
  expect(await vm.request({ type: 'stop' })).toMatchObject({ type: 'reply-error', code: 'already-stopped' });
  vm.type('x');
  const first = await vm.request({ type: 'stats' });
  const second = await vm.request({ type: 'stats' });
  const instructions = (reply: FromMachine): number =>
    reply.type === 'reply' ? (reply.result as { instructions: number }).instructions : Number.NaN;
  expect(instructions(first)).toBeGreaterThan(0);
  expect(instructions(second)).toBe(instructions(first));
  expect(vm.console).toBe('>');
  await vm.request({ type: 'go' });
  await vm.prints('>x');
});

test('reboot starts again, and halt ends', async () => {
  vm = new Vm();
  await vm.prints('>');
  await vm.request({ type: 'reboot' });
  await vm.prints('>>');
  expect(vm.messages.map(({ type }) => type)).toContain('rebooted');
  await vm.request({ type: 'halt' });
  expect(await vm.ended()).toEqual({ type: 'ended', end: { reason: 'halt' } });
});

test('a triple fault is reported with the registers', async () => {
  vm = new Vm();
  await vm.prints('>');
  vm.type('t');
  const ended = await vm.ended();
  expect(ended).toMatchObject({ type: 'ended', end: { reason: 'triple-fault' } });
  expect(JSON.stringify(ended)).toMatch(/rip 0*2000[45]/);
});

test('SysRq takes letters only', async () => {
  vm = new Vm({ append: 'console=ttyS0' });
  await vm.prints('>');
  expect(await vm.request({ type: 'sysrq', letter: 'ü' })).toMatchObject({ code: 'invalid_input' });
  await vm.request({ type: 'sysrq', letter: 'h' });
  await vm.prints('>\0h');
});

test('where the serial port is no console, SysRq comes from the keyboard', async () => {
  const kernel = join(folder, 'keyboard');
  const code = Buffer.from(
    '66baf803b03eee' + // mov dx,3f8; mov al,'>'; out dx,al
      'e464a80174fa' + // poll: in al,64; test al,1; jz poll
      'e46066baf803eeebf1', // in al,60; mov dx,3f8; out dx,al; jmp poll
    'hex',
  );
  writeFileSync(kernel, Buffer.concat([KERNEL.subarray(0, 32), code, Buffer.alloc(64)]));
  vm = new Vm({ kernel, append: 'console=hvc0' });
  await vm.prints('>');
  expect(await vm.request({ type: 'sysrq', letter: 'R' })).toMatchObject({
    code: 'invalid_input',
    remedy: expect.stringContaining('console=ttyS0'),
  });
  await vm.request({ type: 'sysrq', letter: 'h' });
  // In scan code set 1: Alt, SysRq and H go down.
  await vm.prints('>\x38\x54\x23');
});

test('what cannot be booted ends with a code and the remedy', async () => {
  vm = new Vm({ kernel: join(folder, 'disk') });
  expect(await vm.ended()).toMatchObject({ end: { reason: 'error', code: 'bad_kernel' } });
  await vm.exited;
  vm = new Vm({ kernel: join(folder, 'missing') });
  expect(await vm.ended()).toMatchObject({ end: { reason: 'error', code: 'not_found' } });
  await vm.exited;
  vm = new Vm({ memoryBytes: 12345 });
  expect(await vm.ended()).toMatchObject({ end: { reason: 'error', code: 'invalid_input' } });
});

test('a backup of a running machine reports its progress', async () => {
  const disk = { device: 'ubd0', file: join(folder, 'disk'), readOnly: false };
  vm = new Vm({ disks: [disk] });
  await vm.prints('>');
  const done = vm.next(({ type }) => type === 'backup-done');
  const plan = backupPlan(storeIn(folder));
  const reply = await vm.request({ type: 'backup', plan, quiesce: true });
  expect(reply.type).toBe('reply');
  expect(await done).toMatchObject({ result: { id: plan.head.id, consistency: 'crash' } });
  expect(vm.messages.filter(({ type }) => type === 'backup-progress').at(-1)).toMatchObject({
    doneBytes: 1 << 20,
    totalBytes: 1 << 20,
  });
});
