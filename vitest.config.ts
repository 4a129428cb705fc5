import { defineConfig } from 'vitest/config';
import { NODE_FLAGS } from './bin/launch.mjs';

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    testTimeout: 30_000,
    // V8 compiles the tests as it compiles the program.
    execArgv: NODE_FLAGS,
    reporters: ['default', './test/support/closing-line-reporter.ts'],
  },
});
