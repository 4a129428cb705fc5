/**
 * Builds `dist/`, the JavaScript that a published package runs: Node does not strip types inside node_modules.
 * Source files keep their place relative to the package's root, so that `../../migrations` and `../../build` hold.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = join(root, 'dist');
const configFile = join(root, 'build/tsconfig.dist.json');

function run(command: string, args: readonly string[]): void {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0) process.exit(result.status ?? 1);
}

run(process.execPath, [join(root, 'scripts/build-core.ts')]);
rmSync(dist, { recursive: true, force: true });
const config = {
  extends: '../tsconfig.json',
  compilerOptions: { noEmit: false, rootDir: '../src', outDir: '../dist', types: ['node'] },
  include: ['../src'],
  exclude: ['../src/engine/core/assembly', '../src/dashboard', '../src/**/*.test.ts', '../src/**/testing'],
};
writeFileSync(configFile, JSON.stringify(config));
run(join(root, 'node_modules/.bin/tsc'), ['-p', configFile]);
cpSync(join(root, 'src/dashboard'), join(dist, 'dashboard'), {
  recursive: true,
  filter: (file) => !/\.(test\.ts|tsx?)$/.test(file),
});
chmodSync(join(root, 'bin/umlaut.mjs'), 0o755);
console.log('built dist/');
