/** Takes up jobs and never ends them: the test kills it. Says `running` when a handler has started. */
import type { JobKind } from '../../contracts/jobs.ts';
import { openJobs, type TestStore } from './open-jobs.ts';

const [storeText, ...kinds] = process.argv.slice(2);
const store = JSON.parse(storeText ?? '') as TestStore; // INVARIANT: written by jobs.test.ts
const { jobs } = openJobs(store);
for (const kind of kinds as JobKind[]) {
  jobs.process(kind, () => {
    process.stdout.write(`running ${kind}\n`);
    return new Promise(() => {});
  });
}
await jobs.start();
