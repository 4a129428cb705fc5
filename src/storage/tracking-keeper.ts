/** Keeps what a disk's tracker knows from the disk's closing to its next opening. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ChangeTracker } from './change-tracker.ts';
import { dropTracking, saveTracking } from './tracking-file.ts';
import type { LayeredVolume } from './layers/layered-volume.ts';

/** Linux stamps changes with the time of the last timer tick, which is up to 10 ms old. */
const TICK_MS = 20;

export class TrackingKeeper {
  readonly tracker: ChangeTracker;
  readonly #file: string;
  readonly #volume: LayeredVolume;
  #states: readonly string[] | undefined;

  constructor(tracker: ChangeTracker, file: string, volume: LayeredVolume) {
    this.tracker = tracker;
    this.#file = file;
    this.#volume = volume;
  }

  /**
   * Notes the state of the files after the last write, while they are still locked, and only when a tick has passed: anybody's
   * later change then has another time stamp.
   */
  async beforeClose(): Promise<void> {
    if (this.tracker.bases.size === 0) return;
    try {
      await this.#volume.flush();
      await delay(TICK_MS);
      this.#states = this.#volume.fileStates();
    } catch {
      // What is wrong with the files is told by their closing. Without tracking the next backup reads everything.
    }
  }

  afterClose(): void {
    if (this.#states === undefined) return;
    try {
      saveTracking(this.#file, this.tracker, this.#states);
    } catch {
      dropTracking(this.#file);
    }
  }
}
