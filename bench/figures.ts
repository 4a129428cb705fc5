/** Measurements and the tables that are made of them. */

/** Who runs a program: our engine, QEMU's TCG, or the bare processor. */
export type Runner = 'umlaut' | 'qemu' | 'native';

/** What one run of a program gave: seconds, and a checksum of what it computed. */
export interface Sample {
  readonly seconds: number;
  readonly result: string;
}

/** Samples of one run, by program. */
export type Timing = ReadonlyMap<string, Sample>;

/** Medians of all runs. */
export interface Row {
  readonly what: string;
  readonly ours: number;
  readonly qemu: number | undefined;
  readonly native: number | undefined;
}

export function median(list: readonly number[]): number {
  const sorted = [...list].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

const geometricMean = (list: readonly number[]): number =>
  Math.exp(list.reduce((sum, value) => sum + Math.log(value), 0) / list.length);

/** Lines of `NAME SECONDS CHECKSUM`. */
export function parseTiming(output: string): Timing {
  const lines = [...output.matchAll(/^([a-z0-9-]+) ([0-9.]+) ([0-9a-f]+)\r?$/gm)];
  if (lines.length === 0) throw new Error(`nothing was measured:\n${output.slice(-2000)}`);
  return new Map(
    lines.map(([, name, seconds, result]) => [name!, { seconds: Number(seconds), result: result! }]),
  );
}

/** Collects the runs of a table. Results must be the same everywhere. */
export class Samples {
  readonly #seconds = new Map<string, Record<Runner, number[]>>();
  readonly #results = new Map<string, string>();

  add(runner: Runner, timing: Timing): void {
    for (const [name, { seconds, result }] of timing) {
      const expected = this.#results.get(name) ?? result;
      if (expected !== result)
        throw new Error(`${name} gave ${result} on ${runner}, before that ${expected}`);
      this.#results.set(name, expected);
      const lists = this.#seconds.get(name) ?? { umlaut: [], qemu: [], native: [] };
      this.#seconds.set(name, lists);
      lists[runner].push(seconds);
    }
  }

  get rows(): Row[] {
    const middle = (list: readonly number[]): number | undefined =>
      list.length === 0 ? undefined : median(list);
    return [...this.#seconds]
      .filter(([, { umlaut }]) => umlaut.length > 0)
      .map(([what, { umlaut, qemu, native }]) => ({
        what,
        ours: median(umlaut),
        qemu: middle(qemu),
        native: middle(native),
      }));
  }
}

const cell = (value: number | undefined): string => (value === undefined ? '–' : value.toFixed(3));
const ratio = (other: number | undefined, ours: number): string =>
  other === undefined ? '–' : (other / ours).toFixed(2);

/** A table in Markdown, and below it what it comes to. */
export function table(rows: readonly Row[]): string {
  const lines = [
    '| program | ours, s | QEMU TCG, s | native, s | QEMU / ours | native / ours |',
    '|---|---:|---:|---:|---:|---:|',
    ...rows.map(
      ({ what, ours, qemu, native }) =>
        `| ${what} | ${cell(ours)} | ${cell(qemu)} | ${cell(native)} | ${ratio(qemu, ours)} | ${ratio(native, ours)} |`,
    ),
  ];
  const ratios = rows.flatMap(({ ours, qemu }) => (qemu === undefined ? [] : [qemu / ours]));
  if (ratios.length < 2) return lines.join('\n');
  const summary = `Geometric mean of QEMU's time over ours: ${geometricMean(ratios).toFixed(2)}; the slowest program: ${Math.min(...ratios).toFixed(2)}.`;
  return [...lines, '', summary].join('\n');
}
