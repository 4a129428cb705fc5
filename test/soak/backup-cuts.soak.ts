import { expect, it } from 'vitest';
import { cutBackups } from '../../src/storage/testing/backup-story.ts';
import { memoryFolder, randomNumbers, scratchFolder } from '../support/storage.ts';

let cuts = 0;

it.each(Array.from({ length: 12 }, (_, index) => index + 1))(
  'a power cut at any step of backups, their removal and the collection of garbage leaves every backup whole (story %d)',
  async (seed) => {
    const random = randomNumbers(seed + 40);
    const coin = (): boolean => random(2) === 0;
    const keeps = [() => true, () => false, coin, coin, coin];
    cuts += await cutBackups({ folder: scratchFolder(), scratch: memoryFolder(), rounds: 20, keeps }, random);
  },
);

it('were ten thousand cuts', () => {
  expect(cuts).toBeGreaterThan(10_000);
});
