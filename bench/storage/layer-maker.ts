/** Entry of a thread that makes the files of new layers, as the daemon's main thread does. */
import { parentPort } from 'node:worker_threads';
import { createLayers } from '../../src/storage/index.ts';

parentPort!.on('message', (layers: Parameters<typeof createLayers>[0]) => {
  createLayers(layers);
  parentPort!.postMessage('made');
});
