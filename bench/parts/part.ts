/** A part of the benchmark: a section of the report. */
import type { BenchKit, Engine } from '../kit.ts';

export interface PartContext {
  readonly kit: BenchKit;
  /** Runs of each measurement, which take turns. */
  readonly runs: number;
  /** Programs to run, empty for all. */
  readonly programs: readonly string[];
  /** Tells how far it is. */
  note(text: string): void;
}

export interface Part {
  readonly name: string;
  readonly title: string;
  /** The section's text in Markdown. */
  run(context: PartContext): Promise<string> | string;
}

/** Lets the engines take turns: each once per run. */
export async function inTurns(
  { kit, runs, note }: PartContext,
  what: string,
  turn: (engine: Engine, run: number) => Promise<void> | void,
): Promise<void> {
  for (let run = 1; run <= runs; run++) {
    for (const engine of kit.engines) {
      note(`${what}: ${engine}, run ${run} of ${runs}`);
      await turn(engine, run);
    }
  }
}
