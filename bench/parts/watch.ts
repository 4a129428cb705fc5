/**
 * What it costs to have a guest watched, and to have files of its /proc replaced: the time that the VM's thread takes for the same
 * work in one guest, with the watch on and off in turns.
 */
import { readFileSync } from 'node:fs';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import type { MachineRequest } from '../../src/contracts/ports.ts';
import { MachineHost } from '../../src/vmm/machine-host.ts';
import { median } from '../figures.ts';
import type { Part } from './part.ts';

/** For so long the work is done over and over before it is measured: by then what is hot is compiled. */
const WARM_UP_SECONDS = 3;
const MEASURED_SECONDS = 1.5;
/** Measurements of each setting, in turns: each comes as often behind each other one. */
const ROUNDS = 8;

/** Work for a second or less each. */
const LOADS = {
  mixed:
    'dd if=/bin/busybox bs=64k count=12 | gzip -1 | sha256sum; grep -rl nothing /proc/sys/net/ipv4; ls -lR /bin; awk "BEGIN { for (n = 0; n < 100000; n++) s += n }"; tar cf - /dev /tmp | wc -c',
  execs: 'i=0; while [ $i -lt 60 ]; do /bin/busybox true; i=$((i+1)); done',
} as const;

type Setting = readonly MachineRequest[];
const UNWATCHED: MachineRequest = { type: 'trace', kinds: [] };
const ALL_OF_PROC: MachineRequest = { type: 'proc-files', files: [] };
const OFF: Setting = [UNWATCHED, ALL_OF_PROC];
const ANOTHER: Setting = [{ type: 'trace', kinds: ['connect'] }];
const OFF_AGAIN = 'off once more';
const SETTINGS: Readonly<Record<string, Setting>> = {
  [OFF_AGAIN]: OFF,
  'exec, open and connect': [ALL_OF_PROC, { type: 'trace', kinds: ['exec', 'open', 'connect'] }],
  'a file of /proc replaced, one hidden': [
    UNWATCHED,
    {
      type: 'proc-files',
      files: [
        { path: 'cpuinfo', source: { kind: 'text', text: 'processor\n' } },
        { path: 'modules', source: { kind: 'hidden' } },
      ],
    },
  ],
};

const SCRIPT = `/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
execs() { ${LOADS.execs}; }
mixed() { ${LOADS.mixed}; }
exec 3< /dev/ttyS1
echo READY
while read -r load <&3; do "$load" > /dev/null 2>&1; echo "DONE"; done
`;

/** A guest that does work when it is told to. */
class Worker {
  readonly #host: MachineHost;
  #said = Promise.withResolvers<void>();
  #output = '';
  readonly #port: MessagePort;

  constructor(kernel: string, initrd: string) {
    const append = 'console=ttyS0 quiet';
    const config = { name: 'bench', memoryBytes: 256 << 20, kernel, initrd, append, disks: [], nics: [] };
    // Messages are cloned, as they are for the daemon's thread.
    const { port1, port2 } = new MessageChannel();
    port2.on('message', () => undefined);
    this.#port = port1;
    this.#host = new MachineHost({ config, nicRings: [] }, readFileSync, (message) => {
      port1.postMessage(message);
      if (message.type !== 'console-output' || message.console !== 'ttyS0') return;
      this.#host.outputTaken('ttyS0', message.bytes.length);
      this.#output += Buffer.from(message.bytes).toString('latin1');
      if (!/(?:READY|DONE)\r?\n/.test(this.#output)) return;
      this.#output = '';
      this.#said.resolve();
    });
  }

  async start(): Promise<void> {
    void this.#host.run();
    await this.#said.promise;
  }

  set(setting: Setting): void {
    for (const request of setting) this.#host.request(request);
  }

  /** Seconds of this thread that the work takes once, as the mean of at least so many seconds. */
  async measure(load: string, least: number): Promise<number> {
    let taken = 0;
    let times = 0;
    for (; taken < least; times++) taken += await this.#once(load);
    return taken / times;
  }

  async #once(load: string): Promise<number> {
    this.#said = Promise.withResolvers();
    const before = this.#host.stats().cpuSeconds;
    this.#host.input('ttyS1', Buffer.from(`${load}\n`));
    await this.#said.promise;
    return this.#host.stats().cpuSeconds - before;
  }

  async close(): Promise<void> {
    this.#port.close();
    await this.#host.close();
  }
}

const percent = (ratio: number): string => `${((ratio - 1) * 100).toFixed(1)} %`;

/** What it takes more, as the median of the rounds. */
const cost = (seconds: readonly number[], without: readonly number[]): string =>
  percent(median(seconds.map((value, round) => value / without[round]!)));

async function measureLoad(worker: Worker, load: string): Promise<string[]> {
  const taken = new Map<string, number[]>();
  const settings = Object.entries({ off: OFF, ...SETTINGS });
  for (let round = 0; round < ROUNDS; round++) {
    const first = round % settings.length;
    for (const [name, setting] of [...settings.slice(first), ...settings.slice(0, first)]) {
      // All translated code is dropped when points come and go. That is not what is measured, and the same for all.
      worker.set(ANOTHER);
      worker.set(setting);
      await worker.measure(load, WARM_UP_SECONDS);
      taken.set(name, [...(taken.get(name) ?? []), await worker.measure(load, MEASURED_SECONDS)]);
    }
  }
  const [off, again] = [taken.get('off')!, taken.get(OFF_AGAIN)!];
  const without = off.map((seconds, round) => (seconds + again[round]!) / 2);
  const costs = Object.keys(SETTINGS).filter((name) => name !== OFF_AGAIN);
  return [cost(again, off), ...costs.map((name) => cost(taken.get(name)!, without))];
}

export const watch: Part = {
  name: 'watch',
  title: 'Watched guests',
  async run({ kit, note }) {
    const worker = new Worker(kit.kernel, kit.initrd('watch', SCRIPT));
    const rows: string[] = [];
    try {
      await worker.start();
      for (const load of Object.keys(LOADS)) {
        note(`watch: ${load}`);
        rows.push(`| ${[load, ...(await measureLoad(worker, load))].join(' | ')} |`);
      }
    } finally {
      await worker.close();
    }
    return [
      `Processor time of the VM's thread that the same work takes more than without, median of ${ROUNDS} rounds; "off once more" against the first is how exact that is. Mixed: gzip, sha256sum, grep, ls, awk, tar; execs: 60 programs started, and nothing else.`,
      '',
      `| work | ${Object.keys(SETTINGS).join(' | ')} |`,
      `|---|${'---:|'.repeat(Object.keys(SETTINGS).length)}`,
      ...rows,
    ].join('\n');
  },
};
