import { expect, test } from 'vitest';
import type { Cpu } from '../cpu.ts';
import { EXIT } from '../layout.ts';
import { MachineClock } from './clock.ts';
import { Interrupts } from './interrupts.ts';
import { RunLoop } from './run-loop.ts';

/** A CPU that runs what `step` says, and counts. */
class FakeCpu implements Cpu {
  setTracePoints(): void {}
  readonly jitStats = {
    regions: 0,
    modules: 0,
    moduleBytes: 0,
    guestInstructions: 0,
    compileMs: 0,
    evictedRegions: 0,
    residentRegions: 0,
    residentBytes: 0,
    instructions: 0,
    compiledInstructions: 0,
    leftForCode: 0,
    leftForFault: 0,
    leftForMiss: 0,
    leftForSystem: 0,
  };
  instructions = 0;
  halted = false;
  interruptible = true;
  runs = 0;
  readonly vectors: number[] = [];
  step: () => number = () => EXIT.HALT;

  reset(): void {}
  run(instructions: number): number {
    this.runs++;
    this.instructions += instructions;
    const reason = this.step();
    this.halted = reason === EXIT.HALT;
    return reason;
  }
  interruptions = 0;
  interruptRun(): void {
    this.interruptions++;
  }
  interrupt(vector: number): void {
    this.halted = false;
    this.vectors.push(vector);
  }
  setInterruptPending(): void {}
  invalidate(): void {}
  dump(): string {
    return '';
  }
}

function setUp() {
  const cpu = new FakeCpu();
  const clock = new MachineClock();
  let loop: RunLoop | undefined;
  const interrupts = new Interrupts(clock, {
    changed: () => loop?.wake(),
    nmi() {},
    cpu: { cr8: 0, tscOffset: 0n },
  });
  const log: string[] = [];
  const turn = Promise.withResolvers<void>();
  loop = new RunLoop(cpu, clock, interrupts, {
    sliceEnded() {
      log.push('slice');
    },
    shutdown() {
      log.push('shutdown');
      turn.resolve();
    },
    failed(error) {
      log.push(String(error));
      turn.resolve();
    },
  });
  interrupts.lapic.region.write(0xf0, 4, 0x1ff);
  const turns = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) await new Promise<void>((resolve) => void setImmediate(resolve));
  };
  return { cpu, clock, interrupts, loop, log, ended: turn.promise, turns };
}

test('a halted CPU is left alone until an interrupt wakes it', async () => {
  const { cpu, interrupts, loop, turns } = setUp();
  loop.start();
  await turns(20);
  expect(cpu.runs).toBe(1);
  interrupts.msi(0xfee0_0000, 0x41);
  await turns(5);
  expect(cpu.vectors).toEqual([0x41]);
  expect(cpu.runs).toBe(2);
  loop.stop();
});

test('a timer wakes a halted CPU', async () => {
  const { cpu, clock, interrupts, loop } = setUp();
  const woken = Promise.withResolvers<void>();
  const wakeIn = (delayNs: number): void => {
    clock.at(clock.nowNs() + delayNs, () => interrupts.msi(0xfee0_0000, 0x42));
  };
  // The second is set when the first has come: two that are due at once are one interrupt.
  cpu.step = () => {
    if (cpu.vectors.length === 1) {
      interrupts.lapic.region.write(0xb0, 4, 0);
      wakeIn(5_000_000);
    }
    if (cpu.vectors.length === 2) woken.resolve();
    return EXIT.HALT;
  };
  wakeIn(300_000);
  loop.start();
  await woken.promise;
  expect(cpu.vectors).toEqual([0x42, 0x42]);
  loop.stop();
});

test('a CPU halted with interrupts off stays so, and does not spin', async () => {
  const { cpu, interrupts, loop, log, turns } = setUp();
  cpu.interruptible = false;
  loop.start();
  interrupts.msi(0xfee0_0000, 0x41);
  await turns(30);
  expect(cpu.vectors).toEqual([]);
  expect(log.length).toBeLessThan(5);
  loop.stop();
});

test('the event loop turns while the CPU is busy, and stop stops', async () => {
  const { cpu, loop, turns } = setUp();
  cpu.step = () => EXIT.BUDGET;
  loop.start();
  await turns(3);
  loop.stop();
  const { runs } = cpu;
  expect(runs).toBeGreaterThan(0);
  await turns(3);
  expect(cpu.runs).toBe(runs);
  loop.start();
  await turns(3);
  expect(cpu.runs).toBeGreaterThan(runs);
  loop.stop();
});

test('a shutdown and an exception end the loop', async () => {
  const first = setUp();
  first.cpu.step = () => EXIT.SHUTDOWN;
  first.loop.start();
  await first.ended;
  expect(first.log).toContain('shutdown');
  const second = setUp();
  second.cpu.step = () => {
    throw new Error('broken device');
  };
  second.loop.start();
  await second.ended;
  expect(second.log).toEqual(['Error: broken device']);
  await second.turns(3);
  expect(second.cpu.runs).toBe(1);
});

test('a run is cut short when it sets a timer that is due before all others', async () => {
  const { cpu, clock, loop, turns } = setUp();
  const later = clock.at(clock.nowNs() + 50e6, () => {});
  cpu.step = () => {
    clock.at(clock.nowNs() + 90e6, () => {});
    const before = cpu.interruptions;
    const nearer = clock.at(clock.nowNs() + 10e6, () => {});
    expect([before, cpu.interruptions]).toEqual([0, 1]);
    nearer.cancel();
    return EXIT.HALT;
  };
  loop.start();
  await turns(3);
  expect(cpu.interruptions).toBe(1);
  later.cancel();
  loop.stop();
});
