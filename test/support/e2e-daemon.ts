/** A daemon with the default image, for the tests of one file. */
import { randomUUID } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { Daemon } from './daemon.ts';
import { imageObstacle } from './test-image.ts';
import { skipTest } from './tools.ts';

const START_MS = 600_000;
const STOP_MS = 60_000;

interface ImageDaemonOptions {
  /** More options of `umlaut daemon`. */
  readonly options?: readonly string[];
  /** Done once, before the first test, where there is an image. */
  prepare?(daemon: Daemon): Promise<void>;
}

/**
 * The daemon, which runs while the tests of this file do, in a state folder that goes with it. Where the image cannot be
 * built, the tests are skipped.
 */
export function useImageDaemon({ options = [], prepare }: ImageDaemonOptions = {}): Daemon {
  const daemon = new Daemon(path.join(os.tmpdir(), `umlaut-e2e-${randomUUID().slice(0, 8)}`), options);
  let obstacle: string | undefined;

  beforeAll(async () => {
    await daemon.start();
    try {
      await daemon.importTestImage();
    } catch (error) {
      obstacle = imageObstacle(error);
      if (obstacle === undefined) throw error;
      return;
    }
    await prepare?.(daemon);
  }, START_MS);

  beforeEach(() => {
    if (obstacle !== undefined) skipTest(obstacle);
  });

  afterAll(async () => {
    await daemon.stop();
    fs.rmSync(daemon.home, { recursive: true, force: true });
  }, STOP_MS);

  return daemon;
}
