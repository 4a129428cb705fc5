import { once } from 'node:events';
import type { MessagePort } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { memoryMap, MODE } from '../layout.ts';
import type { Introduction, RemoteAnswer } from './backend.ts';
import { CompileService } from './compile-service.ts';
import type { CompileRequest } from './translator.ts';

const map = memoryMap(1 << 20, 1 << 16);

/** Asks for the region of an empty page. */
async function ask(port: MessagePort): Promise<RemoteAnswer> {
  const pages = map.end / 65536;
  const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const introduction: Introduction = {
    buffer,
    signatures: new Map(),
    options: { map, tlbEntries: 16, threshold: 1 },
  };
  const paging = { cr0: 0n, cr3: 0n, efer: 0n, mode: MODE.CODE64 };
  const place = { record: map.regionRecords, ramOffset: 0, rip: 0n, linear: 0n };
  const request: CompileRequest = { ...place, paging, epoch: 0 };
  port.postMessage(introduction);
  port.postMessage(request);
  const [answer] = (await once(port, 'message')) as [RemoteAnswer];
  return answer;
}

test('a compiler that dies is only warned of, and the next VM gets another', async () => {
  const service = new CompileService();
  const warned = once(process, 'warning');
  const broken = service.connect();
  // No VM introduces itself like this.
  broken.postMessage(null);
  // The thread's end closes its ports.
  await Promise.all([warned, once(broken, 'close')]);
  await expect.poll(() => service.isRunning).toBe(false);
  const port = service.connect();
  expect(await ask(port)).toMatchObject({ answered: 1 });
  port.close();
});
