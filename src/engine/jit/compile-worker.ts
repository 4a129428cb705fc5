/**
 * The thread that compiles for VMs. Each VM has a port to it; the requests that have come in on a port become a
 * module, ports taking turns.
 */
import { type MessagePort, parentPort, receiveMessageOnPort } from 'node:worker_threads';
import {
  BATCH,
  type CompiledModule,
  compilePending,
  type Introduction,
  noneTurnedAway,
  offer,
  type RemoteAnswer,
} from './backend.ts';
import { dropProgramPages } from '../program-pages.ts';
import { collectGarbageSoon, modulesDropped, whenStarted } from '../v8.ts';
import { type CompileRequest, Translator } from './translator.ts';

const take = <T>(port: MessagePort): T | undefined =>
  (receiveMessageOnPort(port) as { message: T } | undefined)?.message;

/** Compiles the newest of the requests, as many as make a module: older ones may not be hot any more. */
function compileBatch(translator: Translator, waiting: CompileRequest[]): RemoteAnswer {
  const started = performance.now();
  const batch = waiting.splice(-BATCH);
  let compiled: CompiledModule | undefined;
  let turnedAway = noneTurnedAway();
  try {
    for (const request of batch) offer(translator, request, turnedAway);
    compiled = compilePending(translator, started);
  } catch (error) {
    // The guest goes on in the interpreter.
    translator.clear();
    turnedAway = { deferred: [], refused: batch };
    process.emitWarning(error as Error);
  }
  return { answered: batch.length, compiled, ...turnedAway };
}

function serve(port: MessagePort): void {
  const waiting: CompileRequest[] = [];
  let translator: Translator;
  const work = (): void => {
    for (let more = take<CompileRequest>(port); more !== undefined; more = take(port)) waiting.push(more);
    const answer = compileBatch(translator, waiting);
    port.postMessage(answer);
    // From here on the module belongs to the VM.
    modulesDropped(answer.compiled?.bytes ?? 0);
    collectGarbageSoon();
    if (waiting.length > 0) setImmediate(work);
  };
  port.once('message', ({ buffer, signatures, options }: Introduction) => {
    translator = new Translator(buffer, signatures, options);
    port.on('message', (request: CompileRequest) => {
      waiting.push(request);
      if (waiting.length === 1) work();
    });
  });
}

parentPort!.on('message', serve);
// Every process with a VM has this thread, and here no guest waits for it.
whenStarted(dropProgramPages);
