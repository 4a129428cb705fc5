/** The PC's pair of 8259A interrupt controllers, with the edge/level control registers 0x4d0 and 0x4d1. */
import type { Board, Device, IoRegion } from '../../machine/bus.ts';
import { byteRegion } from '../../machine/io-space.ts';

/** One 8259A. Bit i of every mask is input i. */
class Chip {
  readonly #outputChanged: () => void;
  readonly #elcrMask: number;
  #levels = 0;
  #irr = 0;
  #imr = 0;
  #isr = 0;
  #elcr = 0;
  /** Input of highest priority. */
  #top = 0;
  #vectorBase = 0;
  /** Which initialization word comes next, 0 = none. */
  #initWord = 0;
  #needsIcw4 = false;
  #autoEoi = false;
  #rotateOnAutoEoi = false;
  #specialMask = false;
  #specialFullyNested = false;
  #readIsr = false;
  #poll = false;
  readonly #isMaster: boolean;

  constructor(isMaster: boolean, elcrMask: number, outputChanged: () => void) {
    this.#isMaster = isMaster;
    this.#elcrMask = elcrMask;
    this.#outputChanged = outputChanged;
  }

  reset(): void {
    this.#initialize();
    this.#elcr = 0;
    this.#irr = 0;
    this.#vectorBase = 0;
    this.#initWord = 0;
  }

  #initialize(): void {
    // Edge-sensed inputs need a new edge after ICW1; level-sensed ones stay requested.
    this.#irr &= this.#elcr;
    this.#imr = 0;
    this.#isr = 0;
    this.#top = 0;
    this.#autoEoi = this.#rotateOnAutoEoi = this.#specialMask = this.#specialFullyNested = false;
    this.#readIsr = this.#poll = false;
  }

  setInput(input: number, level: boolean): void {
    const bit = 1 << input;
    if ((this.#elcr & bit) !== 0) {
      this.#irr = level ? this.#irr | bit : this.#irr & ~bit;
    } else if (level) {
      if ((this.#levels & bit) === 0) this.#irr |= bit;
    } else {
      // The request must stay high until it is acknowledged (8259A, "edge triggered mode").
      this.#irr &= ~bit;
    }
    this.#levels = level ? this.#levels | bit : this.#levels & ~bit;
    this.#outputChanged();
  }

  /** Distance of the mask's most urgent input from the top of the priority ring, 8 when it is empty. */
  #rank(mask: number): number {
    for (let rank = 0; rank < 8; rank++) if ((mask & (1 << ((rank + this.#top) & 7))) !== 0) return rank;
    return 8;
  }

  /** The input to be served next, -1 for none: what the INT pin shows. */
  get request(): number {
    const rank = this.#rank(this.#irr & ~this.#imr);
    if (rank === 8) return -1;
    let inService = this.#specialMask ? this.#isr & ~this.#imr : this.#isr;
    if (this.#specialFullyNested && this.#isMaster) inService &= ~4;
    return rank < this.#rank(inService) ? (rank + this.#top) & 7 : -1;
  }

  /** Marks an input in service. */
  acknowledge(input: number): void {
    const bit = 1 << input;
    if (this.#autoEoi) {
      if (this.#rotateOnAutoEoi) this.#top = (input + 1) & 7;
    } else {
      this.#isr |= bit;
    }
    if ((this.#elcr & bit) === 0) this.#irr &= ~bit;
    this.#outputChanged();
  }

  vector(input: number): number {
    return this.#vectorBase | input;
  }

  get elcr(): number {
    return this.#elcr;
  }
  set elcr(value: number) {
    this.#elcr = value & this.#elcrMask;
  }

  read(offset: number): number {
    if (this.#poll) {
      this.#poll = false;
      const input = this.request;
      if (input < 0) return 0;
      this.acknowledge(input);
      return 0x80 | input;
    }
    if (offset === 1) return this.#imr;
    return this.#readIsr ? this.#isr : this.#irr;
  }

  write(offset: number, value: number): void {
    if (offset === 1) this.#writeData(value);
    else if ((value & 0x10) !== 0) this.#writeIcw1(value);
    else if ((value & 0x08) !== 0) this.#writeOcw3(value);
    else this.#writeOcw2(value);
    this.#outputChanged();
  }

  #writeIcw1(value: number): void {
    this.#initialize();
    this.#initWord = 2;
    this.#needsIcw4 = (value & 1) !== 0;
  }

  #writeData(value: number): void {
    switch (this.#initWord) {
      case 2:
        this.#vectorBase = value & 0xf8;
        this.#initWord = 3;
        return;
      case 3:
        this.#initWord = this.#needsIcw4 ? 4 : 0;
        return;
      case 4:
        this.#specialFullyNested = (value & 0x10) !== 0;
        this.#autoEoi = (value & 2) !== 0;
        this.#initWord = 0;
        return;
      default:
        this.#imr = value;
    }
  }

  #writeOcw3(value: number): void {
    if ((value & 4) !== 0) this.#poll = true;
    if ((value & 2) !== 0) this.#readIsr = (value & 1) !== 0;
    if ((value & 0x40) !== 0) this.#specialMask = (value & 0x20) !== 0;
  }

  #writeOcw2(value: number): void {
    const command = value >>> 5;
    const input = value & 7;
    switch (command) {
      case 0:
      case 4:
        this.#rotateOnAutoEoi = command === 4;
        return;
      case 1:
      case 5: {
        const rank = this.#rank(this.#isr);
        if (rank === 8) return;
        const served = (rank + this.#top) & 7;
        this.#isr &= ~(1 << served);
        if (command === 5) this.#top = (served + 1) & 7;
        return;
      }
      case 3:
        this.#isr &= ~(1 << input);
        return;
      case 6:
        this.#top = (input + 1) & 7;
        return;
      case 7:
        this.#isr &= ~(1 << input);
        this.#top = (input + 1) & 7;
    }
  }
}

/** Input of the master that the slave hangs on. */
const CASCADE = 2;
const SPURIOUS = 7;

export class PicPair implements Device {
  readonly name = 'i8259';
  readonly #changed: () => void;
  readonly #master: Chip;
  readonly #slave: Chip;
  #wasPending = false;

  /** @param changed called when INTR to the CPU changes */
  constructor(changed: () => void) {
    this.#changed = changed;
    this.#master = new Chip(true, 0xf8, () => this.#update());
    this.#slave = new Chip(false, 0xde, () => this.#master.setInput(CASCADE, this.#slave.request >= 0));
  }

  /** Puts the pair at its I/O ports. */
  plug(ports: Board['ports']): void {
    const region = (name: string, chip: Chip): IoRegion =>
      byteRegion(
        name,
        (offset) => chip.read(offset),
        (offset, value) => chip.write(offset, value),
      );
    ports.map(0x20, 2, region('i8259 master', this.#master));
    ports.map(0xa0, 2, region('i8259 slave', this.#slave));
    const chips = [this.#master, this.#slave] as const;
    ports.map(
      0x4d0,
      2,
      byteRegion(
        'ELCR',
        (offset) => chips[offset & 1]!.elcr,
        (offset, value) => {
          chips[offset & 1]!.elcr = value;
        },
      ),
    );
  }

  reset(): void {
    this.#slave.reset();
    this.#master.reset();
    this.#update();
  }

  /** Level of ISA interrupt 0…15. */
  setIrq(irq: number, level: boolean): void {
    if (irq < 8) this.#master.setInput(irq, level);
    else this.#slave.setInput(irq - 8, level);
  }

  /** State of the INTR pin. */
  get pending(): boolean {
    return this.#master.request >= 0;
  }

  /** The INTA cycle: returns the vector. */
  acknowledge(): number {
    const input = this.#master.request;
    if (input < 0) return this.#master.vector(SPURIOUS);
    if (input !== CASCADE) {
      this.#master.acknowledge(input);
      return this.#master.vector(input);
    }
    const slaveInput = this.#slave.request;
    this.#master.acknowledge(CASCADE);
    if (slaveInput < 0) return this.#slave.vector(SPURIOUS);
    this.#slave.acknowledge(slaveInput);
    return this.#slave.vector(slaveInput);
  }

  #update(): void {
    const pending = this.pending;
    if (pending === this.#wasPending) return;
    this.#wasPending = pending;
    this.#changed();
  }
}
