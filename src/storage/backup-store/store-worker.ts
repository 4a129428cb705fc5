/** Entry of a thread that does tasks on stores (store-threads.ts). */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { doTask } from './do-task.ts';
import { giveWay } from './give-way.ts';
import { TaskChannel } from './task-channel.ts';
import type { StartTask, StoreThreadData, ToStoreThread } from './tasks.ts';

// INVARIANT: this file is only ever started as a worker, with StoreThreadData.
const owner = parentPort as MessagePort;
if ((workerData as StoreThreadData).manner === 'background') giveWay();
const running = new Map<number, TaskChannel>();
owner.on('message', (message: ToStoreThread) => {
  if (message.type === 'cancel') running.get(message.id)?.cancel();
  else void serve(message);
});

async function serve({ id, job, port }: StartTask): Promise<void> {
  const channel = new TaskChannel(port);
  running.set(id, channel);
  await doTask(job, channel);
  running.delete(id);
  // In this order: what the owner of the task does next finds this thread free.
  owner.postMessage(id);
  channel.close();
}
