/** How interrupt requests get from devices to the CPU: 8259 pair, IOAPIC, local APICs, MSI. */
import type { Clock, IrqLine } from './bus.ts';
import { IoApic, IOAPIC_PINS } from '../devices/apic/ioapic.ts';
import { type CpuRegisters, DELIVERY, type InterruptMessage, Lapic } from '../devices/apic/lapic.ts';
import { PicPair } from '../devices/isa/pic.ts';

/** Called by the interrupt controllers. */
export interface InterruptSink {
  /** The answer of `pending` may have changed. */
  changed(): void;
  nmi(apicId: number): void;
  readonly cpu: CpuRegisters;
}

const ISA_IRQS = 16;
const PIT_GSI = 0;
/** The PIT's interrupt is at input 2 of the IOAPIC, as the MADT tells the guest. */
const PIT_PIN = 2;

/** A wired-OR of all lines handed out for one global system interrupt. */
class Gsi {
  readonly #set: (level: boolean) => void;
  #asserted = 0;

  constructor(set: (level: boolean) => void) {
    this.#set = set;
  }

  line(): IrqLine {
    let mine = false;
    return {
      set: (level) => {
        if (level === mine) return;
        mine = level;
        this.#asserted += level ? 1 : -1;
        if (this.#asserted === (level ? 1 : 0)) this.#set(level);
      },
    };
  }
}

export class Interrupts {
  readonly pic: PicPair;
  readonly ioapic: IoApic;
  readonly lapic: Lapic;
  readonly #lapics: readonly Lapic[];
  readonly #gsis: readonly Gsi[];
  /** What `line` hands out: one per global system interrupt. */
  readonly #lines: readonly IrqLine[];

  constructor(clock: Clock, sink: InterruptSink) {
    this.pic = new PicPair(() => sink.changed());
    this.ioapic = new IoApic((message) => this.#ioapicMessage(message));
    this.lapic = new Lapic(0, {
      clock,
      cpu: sink.cpu,
      send: (message, from, shorthand) => this.#route(message, from, shorthand),
      eoi: (vector) => this.ioapic.eoi(vector),
      nmi: (apicId) => sink.nmi(apicId),
      changed: () => sink.changed(),
    });
    this.#lapics = [this.lapic];
    this.#gsis = Array.from(
      { length: IOAPIC_PINS },
      (_, gsi) => new Gsi((level) => this.#setGsi(gsi, level)),
    );
    this.#lines = this.#gsis.map((gsi) => gsi.line());
  }

  reset(): void {
    this.pic.reset();
    this.ioapic.reset();
    for (const lapic of this.#lapics) lapic.reset();
  }

  /** The line of a global system interrupt for its only user. Throws RangeError for one that does not exist. */
  line(gsi: number): IrqLine {
    const line = this.#lines[gsi];
    if (line === undefined) throw new RangeError(`no global system interrupt ${gsi}`);
    return line;
  }

  /** A line of its own for each caller, all wired together: for devices that share an interrupt. */
  sharedLine(gsi: number): IrqLine {
    const target = this.#gsis[gsi];
    if (target === undefined) throw new RangeError(`no global system interrupt ${gsi}`);
    return target.line();
  }

  /** A message-signalled interrupt (Intel SDM volume 3, "Message Signalled Interrupts"). */
  msi(address: number, data: number): void {
    this.#route({
      vector: data & 0xff,
      delivery: (data >>> 8) & 7,
      logical: (address & 4) !== 0,
      destination: (address >>> 12) & 0xff,
      level: (data & 0x8000) !== 0,
    });
  }

  /** Whether the CPU has an interrupt to take. */
  get pending(): boolean {
    return (this.pic.pending && this.lapic.acceptsPic) || this.lapic.pendingVector >= 0;
  }

  /** Acknowledges the interrupt to be taken and returns its vector; only while `pending`. */
  acknowledge(): number {
    if (this.pic.pending && this.lapic.acceptsPic) return this.pic.acknowledge();
    return this.lapic.acknowledge();
  }

  #setGsi(gsi: number, level: boolean): void {
    if (gsi < ISA_IRQS) this.pic.setIrq(gsi, level);
    this.ioapic.setPin(gsi === PIT_GSI ? PIT_PIN : gsi, level);
  }

  #ioapicMessage(message: InterruptMessage): void {
    // ExtINT at the IOAPIC asks the CPU to fetch the vector from the 8259, which its own pin does already.
    if (message.delivery !== DELIVERY.EXTINT) this.#route(message);
  }

  #route(message: InterruptMessage, from?: Lapic, shorthand = 0): void {
    const addressed = this.#lapics.filter((lapic) =>
      shorthand === 0 ? lapic.matches(message) : shorthand === 2 || lapic !== from,
    );
    if (message.delivery !== DELIVERY.LOWEST) {
      for (const lapic of addressed) lapic.accept(message);
      return;
    }
    const lowest = addressed.reduce<Lapic | undefined>(
      (best, lapic) =>
        best === undefined || lapic.processorPriority < best.processorPriority ? lapic : best,
      undefined,
    );
    lowest?.accept(message);
  }
}
