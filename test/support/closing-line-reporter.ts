/** Ends a test run with the skipped tests and their reasons, and with the counts alone on the last line. */
import { relative } from 'node:path';
import type { Reporter, TestCase, TestModule } from 'vitest/node';

interface Tally {
  passed: number;
  failed: number;
  readonly skipped: string[];
}

/** A test that never ran because its suite is skipped has no note; the suite's name says why. */
function skipLine(module: TestModule, test: TestCase): string {
  const result = test.result();
  const reason = result.state === 'skipped' && result.note !== undefined ? `: ${result.note}` : '';
  return `  ${relative(process.cwd(), module.moduleId)} > ${test.fullName}${reason}`;
}

function countModule(tally: Tally, module: TestModule): void {
  let tests = 0;
  let failed = 0;
  for (const test of module.children.allTests()) {
    tests += 1;
    const { state } = test.result();
    if (state === 'passed') tally.passed += 1;
    else if (state === 'skipped') tally.skipped.push(skipLine(module, test));
    else failed += 1;
  }
  // A file that cannot be loaded, or whose hooks fail, has failed also where no test of it has.
  if (failed === 0 && (module.state() === 'failed' || tests === 0)) failed = 1;
  tally.failed += failed;
}

export default class ClosingLineReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    const tally: Tally = { passed: 0, failed: errors.length, skipped: [] };
    for (const module of modules) countModule(tally, module);
    const skipped = tally.skipped.length === 0 ? '' : `\nSkipped:\n${tally.skipped.join('\n')}\n`;
    process.stdout.write(
      `${skipped}\n${tally.passed} passed, ${tally.failed} failed, ${tally.skipped.length} skipped\n`,
    );
  }
}
