/**
 * Every instruction form, with random operands, on the host's processor and on the emulator: registers, flags,
 * memory and exceptions must be the same. UMLAUT_VECTORS_SEED, _CASES (for each form) and _FORM (part of a name)
 * choose what runs.
 */
import { describe, expect, test } from 'vitest';
import type { CpuOptions } from '../../src/engine/vcpu.ts';
import { canRunNative } from '../support/native-elf.ts';
import { stepNative } from '../support/native-stepper.ts';
import { difference } from './compare.ts';
import { makeCase } from './encode.ts';
import { EngineStepper } from './engine-stepper.ts';
import type { Form } from './form.ts';
import { CONTROL_FORMS } from './forms-control.ts';
import { INTEGER_FORMS } from './forms-integer.ts';
import { SIMD_FORMS } from './forms-simd.ts';
import { X87_FORMS } from './forms-x87.ts';
import { INPUT, OUTPUT } from './layout.ts';
import { Random } from './random.ts';
import type { TestCase } from './test-case.ts';

const SEED = Number(process.env.UMLAUT_VECTORS_SEED ?? 1);
const CASES = Number(process.env.UMLAUT_VECTORS_CASES ?? 12);
const ONLY = process.env.UMLAUT_VECTORS_FORM ?? '';
/** Differences told in full; of the others, the names of the forms. */
const SHOWN_MAX = 8;
const TIMEOUT_MS = 600_000;

function casesOf(forms: readonly Form[], count: number): TestCase[] {
  return forms
    .filter((form) => form.name.includes(ONLY))
    .flatMap((form) => {
      const random = new Random(SEED, form.name);
      return Array.from({ length: count }, () => makeCase(form, random));
    });
}

/** Runs cases on both and returns what differs, by form. */
function run(cases: readonly TestCase[], options: CpuOptions): Map<string, string[]> {
  const input = new Uint8Array(cases.length * INPUT.BYTES);
  for (const [i, one] of cases.entries()) one.write(input.subarray(i * INPUT.BYTES, (i + 1) * INPUT.BYTES));
  const expected = stepNative(input);
  const engine = new EngineStepper(options);
  const output = new Uint8Array(OUTPUT.BYTES);
  const failures = new Map<string, string[]>();
  for (const [i, one] of cases.entries()) {
    const error = engine.step(input.subarray(i * INPUT.BYTES, (i + 1) * INPUT.BYTES), output);
    const reference = expected.subarray(i * OUTPUT.BYTES, (i + 1) * OUTPUT.BYTES);
    const message = difference(one, reference, error ?? output);
    if (message !== undefined) {
      failures.set(one.form.name, [...(failures.get(one.form.name) ?? []), message]);
    }
  }
  return failures;
}

function report(failures: ReadonlyMap<string, readonly string[]>): string {
  const counts = [...failures].map(([name, messages]) => `${name} (${messages.length})`);
  const first = [...failures.values()].slice(0, SHOWN_MAX).map(([message]) => message);
  return failures.size === 0
    ? ''
    : `${counts.length} forms differ: ${counts.join(', ')}\n${first.join('\n')}`;
}

const FAMILIES = Object.entries({
  integer: INTEGER_FORMS,
  control: CONTROL_FORMS,
  sse: SIMD_FORMS.filter(({ family }) => family === 'sse'),
  mmx: SIMD_FORMS.filter(({ family }) => family === 'mmx'),
  x87: X87_FORMS,
});

/** Processors to test, and the share of the cases that each gets: a compilation takes longer than the rest. */
const SETTINGS = Object.entries({
  interpreter: { share: 1, jitThreshold: 0 },
  compiler: { share: 1 / 4, jitThreshold: 1 },
  'small TLB': { share: 1 / 4, jitThreshold: 0, tlbEntries: 16 },
});

describe.skipIf(!canRunNative)('instructions do what this processor does', () => {
  describe.each(SETTINGS)('%s', (_setting, { share, ...options }) => {
    test.each(FAMILIES)('%s', { timeout: TIMEOUT_MS }, (_name, forms) => {
      expect(report(run(casesOf(forms, Math.ceil(CASES * share)), options))).toBe('');
    });
  });
});
