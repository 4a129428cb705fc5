/** A mainboard for tests, with time that only the test moves. */
import { memoryMap } from '../../layout.ts';
import { Mainboard } from '../board.ts';
import type { MachineEvent } from '../bus.ts';
import type { TimeSource } from '../clock.ts';
import { GuestMemory } from '../guest-memory.ts';

const RAM_BYTES = 8 << 20;

export class TestTime implements TimeSource {
  ns = 0;
  /** Wall clock at time 0: 2026-11-23 19:00:00 UTC. */
  originMs = Date.UTC(2026, 10, 23, 19, 0, 0);
  monotonicNs(): number {
    return this.ns;
  }
  wallMs(): number {
    return this.originMs + this.ns / 1e6;
  }
}

export function testMemory(ramBytes = RAM_BYTES): GuestMemory {
  const map = memoryMap(ramBytes, 0x1_0000);
  const pages = map.end / 65_536;
  return new GuestMemory(
    new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true }),
    map,
    () => {},
  );
}

export class TestBoard extends Mainboard {
  readonly time: TestTime;
  readonly events: MachineEvent[];
  readonly nmis: number[];
  readonly cpu: { cr8: number; tscOffset: bigint };

  constructor(ramBytes = RAM_BYTES) {
    const time = new TestTime();
    const events: MachineEvent[] = [];
    const nmis: number[] = [];
    const cpu = { cr8: 0, tscOffset: 0n };
    super({
      memory: testMemory(ramBytes),
      sink: { changed() {}, nmi: (apicId) => void nmis.push(apicId), cpu },
      onEvent: (event) => void events.push(event),
      entropy: (into) => void into.fill(0xa5),
      time,
    });
    this.time = time;
    this.events = events;
    this.nmis = nmis;
    this.cpu = cpu;
  }

  /** Moves time on, firing each timer at its own time. */
  advance(ns: number): void {
    const end = this.time.ns + ns;
    while (this.clock.nextDeadlineNs <= end) {
      this.time.ns = Math.max(this.time.ns, this.clock.nextDeadlineNs);
      this.clock.fireDue();
    }
    this.time.ns = end;
  }

  /** Sets the 8259 pair up as a PC's firmware does: vectors 0x20 and 0x28, nothing masked. */
  initPic(): void {
    const words = [
      [0x20, 0x11],
      [0x21, 0x20],
      [0x21, 0x04],
      [0x21, 0x01],
      [0xa0, 0x11],
      [0xa1, 0x28],
      [0xa1, 0x02],
      [0xa1, 0x01],
      [0x21, 0x00],
      [0xa1, 0x00],
    ] as const;
    for (const [port, value] of words) this.ports.write(port, 1, value);
  }

  in(port: number): number {
    return this.ports.read(port, 1);
  }
  out(port: number, value: number): void {
    this.ports.write(port, 1, value);
  }
}
