/** The default guest image for tests: built once, kept in build/test-image as long as its builder's sources are the same. */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { AppError } from '../../src/contracts/errors.ts';
import { buildDefaultImage, type Image, ImageStore } from '../../src/images/index.ts';
import { skipTest } from './tools.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BUILDER = path.join(ROOT, 'src/images');
const CACHE = path.join(ROOT, 'build/test-image');
const LOCK_POLL_MS = 500;

/** Builds the image when there is none; other test processes wait for it. */
export async function testImage(): Promise<Image> {
  fs.mkdirSync(CACHE, { recursive: true });
  const store = new ImageStore(path.join(CACHE, builderKey()));
  return store.list()[0] ?? withLock(() => imageIn(store));
}

/** Why this host cannot build it (no apt, no network), if that is what `error` of `testImage` says. */
export function imageObstacle(error: unknown): string | undefined {
  if (!(error instanceof AppError)) return undefined;
  const isApt = error.code === 'job_failed' && error.message.startsWith('apt-');
  if (error.code !== 'tool_missing' && !isApt) return undefined;
  return `the default image cannot be built here: ${error.message.slice(0, 200)}`;
}

/** As `testImage`; where this host cannot build it, the current test is skipped. */
export async function requireTestImage(): Promise<Image> {
  try {
    return await testImage();
  } catch (error) {
    const obstacle = imageObstacle(error);
    if (obstacle === undefined) throw error;
    return skipTest(obstacle);
  }
}

/** The folder that `testImage` gives files of, for `--allow-path`. */
export const TEST_IMAGE_FOLDER = CACHE;

async function imageIn(store: ImageStore): Promise<Image> {
  return store.list()[0] ?? buildDefaultImage(store, { name: 'default' });
}

function builderKey(): string {
  const hash = createHash('sha256');
  const names = fs.readdirSync(BUILDER).filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'));
  for (const name of names.sort()) hash.update(name).update(fs.readFileSync(path.join(BUILDER, name)));
  return hash.digest('hex').slice(0, 16);
}

/** Across processes: the system lets go of an SQLite lock however its holder dies. */
async function withLock<T>(action: () => Promise<T>): Promise<T> {
  const lock = new Database(path.join(CACHE, 'lock'), { timeout: 0 });
  try {
    while (!tryLock(lock)) await delay(LOCK_POLL_MS);
    return await action();
  } finally {
    lock.close();
  }
}

function tryLock(lock: Database.Database): boolean {
  try {
    lock.exec('BEGIN EXCLUSIVE');
    return true;
  } catch (error) {
    if (error instanceof Database.SqliteError && error.code.startsWith('SQLITE_BUSY')) return false;
    throw error;
  }
}
