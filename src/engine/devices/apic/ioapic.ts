/** I/O APIC with 24 inputs: Intel 82093AA datasheet, with the EOI register of version 0x20. */
import type { IoRegion } from '../../machine/bus.ts';
import type { InterruptMessage } from './lapic.ts';

export const IOAPIC_BASE = 0xfec0_0000;
export const IOAPIC_PINS = 24;

const VERSION = 0x20 | ((IOAPIC_PINS - 1) << 16);
const REMOTE_IRR = 0x4000;
const LEVEL = 0x8000;
const MASKED = 0x1_0000;
const LOGICAL = 0x800;
/** Delivery status and remote IRR are the controller's own. */
const LOW_READ_ONLY = 0x5000;
const REDIRECTION = 0x10;

export class IoApic {
  readonly region: IoRegion;
  readonly #send: (message: InterruptMessage) => void;
  readonly #low = new Uint32Array(IOAPIC_PINS);
  readonly #high = new Uint32Array(IOAPIC_PINS);
  /** Input levels, bit i = pin i. */
  #levels = 0;
  #select = 0;
  #id = 0;

  /** @param send delivers a message to the local APICs */
  constructor(send: (message: InterruptMessage) => void) {
    this.#send = send;
    this.region = {
      name: 'I/O APIC',
      read: (offset) => (offset === 0 ? this.#select : offset === 0x10 ? this.#read() : 0),
      write: (offset, _size, value) => {
        if (offset === 0) this.#select = value & 0xff;
        else if (offset === 0x10) this.#write(value);
        else if (offset === 0x40) this.eoi(value & 0xff);
      },
    };
    this.reset();
  }

  reset(): void {
    this.#low.fill(MASKED);
    this.#high.fill(0);
    this.#select = this.#id = 0;
  }

  /** Level of an input. An edge on a masked input is lost (82093AA, "Interrupt Mask"). */
  setPin(pin: number, level: boolean): void {
    const bit = 1 << pin;
    if (level === ((this.#levels & bit) !== 0)) return;
    this.#levels ^= bit;
    if (level) this.#fire(pin);
  }

  /** A local APIC has finished with a level-triggered vector. */
  eoi(vector: number): void {
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      const entry = this.#low[pin]!;
      if ((entry & 0xff) !== vector || (entry & REMOTE_IRR) === 0) continue;
      this.#low[pin] = entry & ~REMOTE_IRR;
      if ((this.#levels & (1 << pin)) !== 0) this.#fire(pin);
    }
  }

  #fire(pin: number): void {
    const entry = this.#low[pin]!;
    if ((entry & MASKED) !== 0) return;
    const level = (entry & LEVEL) !== 0;
    if (level) {
      if ((entry & REMOTE_IRR) !== 0) return;
      this.#low[pin] = entry | REMOTE_IRR;
    }
    this.#send({
      vector: entry & 0xff,
      delivery: (entry >>> 8) & 7,
      logical: (entry & LOGICAL) !== 0,
      destination: this.#high[pin]! >>> 24,
      level,
    });
  }

  #read(): number {
    if (this.#select === 0 || this.#select === 2) return this.#id;
    if (this.#select === 1) return VERSION;
    const pin = (this.#select - REDIRECTION) >> 1;
    if (pin < 0 || pin >= IOAPIC_PINS) return 0;
    return (this.#select & 1) !== 0 ? this.#high[pin]! : this.#low[pin]!;
  }

  #write(value: number): void {
    if (this.#select === 0) this.#id = value & 0x0f00_0000;
    const pin = (this.#select - REDIRECTION) >> 1;
    if (pin < 0 || pin >= IOAPIC_PINS) return;
    if ((this.#select & 1) !== 0) {
      this.#high[pin] = value;
      return;
    }
    let entry = (value & 0x1_ffff & ~LOW_READ_ONLY) | (this.#low[pin]! & LOW_READ_ONLY);
    if ((entry & LEVEL) === 0) entry &= ~REMOTE_IRR;
    this.#low[pin] = entry;
    if ((entry & LEVEL) !== 0 && (this.#levels & (1 << pin)) !== 0) this.#fire(pin);
  }
}
