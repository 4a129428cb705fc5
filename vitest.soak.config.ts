import { defineConfig } from 'vitest/config';

/** The long tests: `npm run soak`. One file at a time, so that each has the machine. */
export default defineConfig({
  test: {
    include: ['test/soak/**/*.soak.ts'],
    testTimeout: 3_600_000,
    fileParallelism: false,
    reporters: ['default', './test/support/closing-line-reporter.ts'],
  },
});
