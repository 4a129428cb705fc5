import { defineConfig } from 'vitest/config';
import { NODE_FLAGS } from './bin/launch.mjs';

/** The long tests: `npm run soak`. One file at a time, so that each has the machine. */
export default defineConfig({
  test: {
    include: ['test/soak/**/*.soak.ts'],
    testTimeout: 3_600_000,
    fileParallelism: false,
    // V8 compiles the tests as it compiles the program.
    execArgv: NODE_FLAGS,
    reporters: ['default', './test/support/closing-line-reporter.ts'],
  },
});
