/** Entry of the thread that hashes pieces: one answer for each, in their order. Its owner ends it. */
import { type MessagePort, parentPort } from 'node:worker_threads';
import { hashChunks } from './format.ts';
import { giveWay } from './give-way.ts';
import type { PieceToHash } from './piece-hasher.ts';

// INVARIANT: this file is only ever started as a worker.
const port = parentPort as MessagePort;
giveWay();
port.on('message', ({ buffer, length, hashes }: PieceToHash) => {
  hashChunks(new Uint8Array(buffer, 0, length), new Uint8Array(hashes));
  port.postMessage(null);
});
