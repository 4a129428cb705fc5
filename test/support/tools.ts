/** Programs of the host that tests run against. A test whose tool is missing is skipped by name, and counted. */
import { TestRunner } from 'vitest';
import { findTool } from '../../src/images/tools.ts';

const skips = new Map<string, number>();

/**
 * The absolute path of a program. Where it is not installed the current test is skipped, with the Debian package that
 * has it as the reason; the count so far is printed with it.
 */
export function requireTool(name: string, debianPackage: string): string {
  return findTool(name) ?? skipTest(`${name} is not installed (Debian package ${debianPackage})`);
}

/** Skips the current test for a reason that the environment gives (no root, no network). */
export function skipTest(reason: string): never {
  const test = TestRunner.getCurrentTest();
  if (test === undefined) throw new Error(`not within a test: ${reason}`);
  const count = (skips.get(reason) ?? 0) + 1;
  skips.set(reason, count);
  process.stderr.write(`skipped (${count}): ${test.name}: ${reason}\n`);
  return test.context.skip(reason);
}
