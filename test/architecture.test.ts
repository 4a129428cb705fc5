/** Who may import whom; ARCHITECTURE.md says why. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const SRC = fileURLToPath(new URL('../src', import.meta.url));

/** Files whose path starts with `who` may import their own folder and what starts with one of `may`. The first row counts. */
const RULES: readonly { readonly who: string; readonly may: readonly string[] }[] = [
  { who: 'contracts/', may: [] },
  { who: 'engine/', may: ['contracts/'] },
  { who: 'storage/', may: ['contracts/', 'engine/backends.ts'] },
  { who: 'switchd/', may: ['contracts/', 'engine/backends.ts'] },
  { who: 'hostfs/', may: ['contracts/', 'engine/backends.ts'] },
  { who: 'inspect/', may: ['contracts/', 'engine/inspection.ts'] },
  { who: 'images/', may: ['contracts/', 'storage/'] },
  { who: 'db/', may: ['contracts/'] },
  { who: 'scheduler/', may: ['contracts/'] },
  {
    who: 'vmm/',
    may: ['contracts/', 'db/', 'engine/', 'hostfs/', 'inspect/', 'storage/', 'switchd/', 'uml/'],
  },
  { who: 'mconsole/', may: ['contracts/', 'uml/', 'vmm/'] },
  { who: 'api/', may: ['contracts/', 'vmm/', 'mconsole/'] },
  { who: 'uml/', may: ['contracts/'] },
  {
    who: 'cli/linux/',
    may: ['cli/', 'contracts/', 'engine/', 'images/', 'mconsole/', 'storage/', 'switchd/', 'uml/', 'vmm/'],
  },
  { who: 'cli/commands/daemon.ts', may: ['cli/', 'contracts/', 'main.ts'] },
  { who: 'cli/commands/disk-files.ts', may: ['cli/', 'contracts/', 'storage/'] },
  { who: 'cli/commands/moo.ts', may: ['cli/', 'contracts/', 'storage/'] },
  { who: 'cli/commands/tty.ts', may: ['cli/', 'contracts/', 'uml/'] },
  { who: 'cli/commands/proc.ts', may: ['cli/', 'contracts/', 'uml/'] },
  { who: 'cli/commands/switch.ts', may: ['cli/', 'contracts/', 'switchd/'] },
  { who: 'cli/commands/tap.ts', may: ['cli/', 'contracts/', 'switchd/'] },
  { who: 'cli/boot', may: ['cli/', 'contracts/', 'engine/', 'switchd/', 'vmm/'] },
  { who: 'cli/', may: ['contracts/'] },
  { who: 'main.ts', may: [''] },
];

/** What these must not import even of their own folder, or of Node. */
const NEVER: readonly { readonly who: string; readonly never: readonly string[] }[] = [
  { who: 'contracts/', never: ['node:'] },
  { who: 'engine/devices/', never: ['engine/decode/', 'engine/uops/', 'engine/interp/', 'engine/jit/'] },
  { who: 'engine/uops/', never: ['engine/interp/', 'engine/jit/', 'engine/devices/', 'engine/machine/'] },
  { who: 'engine/interp/', never: ['engine/jit/', 'engine/devices/', 'engine/machine/'] },
  { who: 'engine/decode/', never: ['engine/interp/', 'engine/jit/', 'engine/devices/', 'engine/machine/'] },
  { who: 'engine/wasm/', never: ['engine/decode/', 'engine/uops/', 'engine/interp/', 'engine/devices/'] },
];

interface Import {
  readonly from: string;
  /** Relative to src, or a package's name. */
  readonly to: string;
}

function sourceFiles(): string[] {
  return readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter(
    (file) =>
      file.endsWith('.ts') &&
      !file.endsWith('.test.ts') &&
      !file.includes('/testing/') &&
      // Another language with its own compiler, which knows no other module.
      !file.startsWith('engine/core/assembly/'),
  );
}

function importsOf(file: string, text: string): Import[] {
  const specifiers = [
    ...text.matchAll(/^(?:import|export)\b[^'";]*?from\s*'([^']+)'/gm),
    ...text.matchAll(/^import\s*'([^']+)'/gm),
    ...text.matchAll(/\bimport\(\s*'([^']+)'/g),
  ].map(([, specifier = '']) => specifier);
  return specifiers.map((specifier) => ({
    from: file,
    to: specifier.startsWith('.') ? join(dirname(file), specifier) : specifier,
  }));
}

const isOurs = ({ to }: Import): boolean => to.endsWith('.ts');

function violates({ from, to }: Import): boolean {
  const rule = RULES.find(({ who }) => from.startsWith(who));
  if (rule === undefined) return true;
  const own = rule.who.endsWith('/') ? [rule.who] : [];
  return ![...own, ...rule.may].some((prefix) => to.startsWith(prefix));
}

function isForbidden({ from, to }: Import): boolean {
  return NEVER.some(
    ({ who, never }) => from.startsWith(who) && never.some((prefix) => to.startsWith(prefix)),
  );
}

const arrow = ({ from, to }: Import): string => `${from} -> ${to}`;

describe('imports', () => {
  const imports = sourceFiles().flatMap((file) => importsOf(file, readFileSync(join(SRC, file), 'utf8')));

  it('are found', () => {
    const text =
      "import { a } from './a.ts';\nimport type {\n  b,\n} from '../b.ts';\nexport * from 'zod';\n";
    const more = "import './side.ts';\nawait import('./late.ts');\n";
    expect(importsOf('x/y.ts', text + more).map(({ to }) => to)).toEqual([
      'x/a.ts',
      'b.ts',
      'zod',
      'x/side.ts',
      'x/late.ts',
    ]);
    expect(imports.filter(isOurs).length).toBeGreaterThan(100);
  });

  it('go from the outside to the inside', () => {
    expect(imports.filter(isOurs).filter(violates).map(arrow)).toEqual([]);
  });

  it('stay within what a part may know', () => {
    expect(imports.filter(isForbidden).map(arrow)).toEqual([]);
  });
});
