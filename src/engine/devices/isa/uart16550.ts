/**
 * 16550A UART: National Semiconductor PC16550D datasheet. The transmitter is as fast as the guest, and while its
 * port is full it is busy, as with a slow line; received bytes are taken from the host only when the FIFO has room, so input waits there, not here.
 */
import type { CharPort } from '../../backends.ts';
import type { Board, Device, IrqLine, TimerHandle } from '../../machine/bus.ts';
import { byteRegion } from '../../machine/io-space.ts';

/** The PC's four serial ports, ttyS0…ttyS3. */
export const UART_PORTS = [
  { base: 0x3f8, irq: 4 },
  { base: 0x2f8, irq: 3 },
  { base: 0x3e8, irq: 4 },
  { base: 0x2e8, irq: 3 },
] as const;

const REG = { DATA: 0, IER: 1, IIR_FCR: 2, LCR: 3, MCR: 4, LSR: 5, MSR: 6, SCRATCH: 7 } as const;
const IER = { RECEIVED: 1, THR_EMPTY: 2, LINE_STATUS: 4, MODEM_STATUS: 8 } as const;
const IIR = {
  NONE: 1,
  MODEM: 0,
  THR_EMPTY: 2,
  RECEIVED: 4,
  LINE_STATUS: 6,
  TIMEOUT: 0xc,
  FIFOS: 0xc0,
} as const;
const FCR = { ENABLE: 1, CLEAR_RX: 2, CLEAR_TX: 4 } as const;
const LCR_DLAB = 0x80;
const LCR_BREAK = 0x40;
const MCR = { DTR: 1, RTS: 2, OUT1: 4, OUT2: 8, LOOP: 0x10 } as const;
const LSR = {
  DATA_READY: 1,
  OVERRUN: 2,
  BREAK: 0x10,
  THR_EMPTY: 0x20,
  IDLE: 0x40,
  FIFO_ERROR: 0x80,
} as const;
const MSR = { CTS: 0x10, DSR: 0x20, RI: 0x40, DCD: 0x80 } as const;
const MSR_CONNECTED = MSR.CTS | MSR.DSR | MSR.DCD;

const FIFO_BYTES = 16;
const TRIGGER_BYTES = [1, 4, 8, 14] as const;
const CLOCK_HZ = 1_843_200;
const OUTPUT_BYTES = 4096;
/** Breaks and the bytes after them that wait for room in the FIFO; more than a person types. */
const INJECTED_MAX = 64;

interface Received {
  readonly byte: number;
  /** LSR bits that belong to this byte. */
  flags: number;
}

export class Uart16550 implements Device {
  readonly name: string;
  readonly #board: Board;
  readonly #irq: IrqLine;
  readonly #port: CharPort;
  readonly #output = new Uint8Array(OUTPUT_BYTES);
  #outputLength = 0;
  #received: Received[] = [];
  /** Goes to the guest before anything from the port. */
  #injected: Received[] = [];
  #hostHasInput = true;
  #ier = 0;
  #fcr = 0;
  #lcr = 0;
  #mcr = 0;
  #scratch = 0;
  #divisor = 12;
  #overrun = 0;
  #thrInterrupt = false;
  #msrDelta = 0;
  #lastMsr: number = MSR_CONNECTED;
  #timedOut = false;
  #timeout: TimerHandle | undefined;
  /** The guest has raised RTS since reset, so that its absence means "wait". */
  #usesRts = false;

  /** @param irq a line of its own where ports share an interrupt */
  constructor(board: Board, name: string, base: number, irq: IrqLine, port: CharPort) {
    this.name = name;
    this.#board = board;
    this.#irq = irq;
    this.#port = port;
    board.ports.map(
      base,
      8,
      byteRegion(
        name,
        (offset) => this.#read(offset),
        (offset, value) => this.#write(offset, value),
      ),
    );
    port.onReadable(() => {
      this.#hostHasInput = true;
      this.#receive();
    });
    port.onDrained?.(() => {
      this.#thrInterrupt = true;
      this.#update();
    });
  }

  reset(): void {
    this.flush();
    this.#received = [];
    this.#injected = [];
    this.#ier = this.#fcr = this.#lcr = this.#mcr = this.#scratch = this.#overrun = this.#msrDelta = 0;
    this.#divisor = 12;
    this.#thrInterrupt = this.#timedOut = this.#usesRts = false;
    this.#lastMsr = MSR_CONNECTED;
    this.#timeout?.cancel();
    this.#timeout = undefined;
    this.#hostHasInput = true;
    this.#irq.set(false);
  }

  /** Passes what the guest has sent to the port; called at the end of a time slice. */
  flush(): void {
    if (this.#outputLength === 0) return;
    const length = this.#outputLength;
    this.#outputLength = 0;
    this.#port.output(this.#output.subarray(0, length));
  }

  /** A break condition on the line, then bytes, ahead of waiting input: SysRq over a serial console. */
  sendBreak(then: Uint8Array): void {
    if (this.#injected.length + 1 + then.length > INJECTED_MAX) return;
    this.#injected.push({ byte: 0, flags: LSR.BREAK });
    for (const byte of then) this.#injected.push({ byte, flags: 0 });
    this.#receive();
  }

  get #usesFifo(): boolean {
    return (this.#fcr & FCR.ENABLE) !== 0;
  }
  get #capacity(): number {
    return this.#usesFifo ? FIFO_BYTES : 1;
  }
  get #trigger(): number {
    return this.#usesFifo ? TRIGGER_BYTES[this.#fcr >>> 6]! : 1;
  }
  /** Nobody takes what is sent. A guest that sends all the same loses it. */
  get #isBusy(): boolean {
    return this.#port.isFull?.() === true && !this.#loops;
  }
  get #loops(): boolean {
    return (this.#mcr & MCR.LOOP) !== 0;
  }

  /** Fills the FIFO from injected breaks and the port. */
  #receive(): void {
    if (this.#loops) return;
    const before = this.#received.length;
    while (this.#received.length < this.#capacity && this.#injected.length > 0) {
      this.#received.push(this.#injected.shift()!);
    }
    const room = this.#capacity - this.#received.length;
    const mayTake = !this.#usesRts || (this.#mcr & MCR.RTS) !== 0;
    if (room > 0 && mayTake && this.#hostHasInput && this.#injected.length === 0) {
      const bytes = this.#port.input(room);
      if (bytes.length === 0) this.#hostHasInput = false;
      for (const byte of bytes) this.#received.push({ byte, flags: 0 });
    }
    if (this.#received.length > before) this.#arrived();
  }

  #arrived(): void {
    this.#timedOut = false;
    this.#armTimeout();
    this.#update();
  }

  /** Fewer bytes than the trigger level interrupt after four character times without activity. */
  #armTimeout(): void {
    this.#timeout?.cancel();
    this.#timeout = undefined;
    if (!this.#usesFifo || this.#received.length === 0) return;
    const bits = 1 + 5 + (this.#lcr & 3) + ((this.#lcr & 8) >>> 3) + 1 + ((this.#lcr & 4) >>> 2);
    const characterNs = (bits * 16 * Math.max(1, this.#divisor) * 1e9) / CLOCK_HZ;
    this.#timeout = this.#board.clock.at(this.#board.clock.nowNs() + 4 * characterNs, () => {
      this.#timeout = undefined;
      this.#timedOut = this.#received.length > 0;
      this.#update();
    });
  }

  #read(offset: number): number {
    if ((this.#lcr & LCR_DLAB) !== 0 && offset <= REG.IER) return (this.#divisor >>> (8 * offset)) & 0xff;
    switch (offset) {
      case REG.DATA:
        return this.#readData();
      case REG.IER:
        return this.#ier;
      case REG.IIR_FCR:
        return this.#readIir();
      case REG.LCR:
        return this.#lcr;
      case REG.MCR:
        return this.#mcr;
      case REG.LSR:
        return this.#readLsr();
      case REG.MSR:
        return this.#readMsr();
      default:
        return this.#scratch;
    }
  }

  #readData(): number {
    const head = this.#received.shift();
    this.#timedOut = false;
    if (this.#received.length === 0) this.#receive();
    this.#armTimeout();
    this.#update();
    return head?.byte ?? 0;
  }

  #interruptId(): number {
    const head = this.#received[0];
    if ((this.#ier & IER.LINE_STATUS) !== 0 && ((head?.flags ?? 0) | this.#overrun) !== 0)
      return IIR.LINE_STATUS;
    if ((this.#ier & IER.RECEIVED) !== 0) {
      if (this.#received.length >= this.#trigger) return IIR.RECEIVED;
      if (this.#timedOut) return IIR.TIMEOUT;
    }
    if ((this.#ier & IER.THR_EMPTY) !== 0 && this.#thrInterrupt && !this.#isBusy) return IIR.THR_EMPTY;
    if ((this.#ier & IER.MODEM_STATUS) !== 0 && this.#msrDelta !== 0) return IIR.MODEM;
    return IIR.NONE;
  }

  #readIir(): number {
    const id = this.#interruptId();
    if (id === IIR.THR_EMPTY) {
      this.#thrInterrupt = false;
      this.#update();
    }
    return this.#usesFifo ? id | IIR.FIFOS : id;
  }

  #readLsr(): number {
    const head = this.#received[0];
    let value = (this.#isBusy ? 0 : LSR.THR_EMPTY | LSR.IDLE) | this.#overrun;
    if (head !== undefined) value |= LSR.DATA_READY | head.flags;
    if (this.#usesFifo && this.#received.some((entry) => entry.flags !== 0)) value |= LSR.FIFO_ERROR;
    if (head !== undefined) head.flags = 0;
    this.#overrun = 0;
    this.#update();
    return value;
  }

  #modemStatus(): number {
    if (!this.#loops) return MSR_CONNECTED;
    const { DTR, RTS, OUT1, OUT2 } = MCR;
    return (
      (this.#mcr & RTS ? MSR.CTS : 0) |
      (this.#mcr & DTR ? MSR.DSR : 0) |
      (this.#mcr & OUT1 ? MSR.RI : 0) |
      (this.#mcr & OUT2 ? MSR.DCD : 0)
    );
  }

  #readMsr(): number {
    const value = this.#modemStatus() | this.#msrDelta;
    this.#msrDelta = 0;
    this.#update();
    return value;
  }

  #write(offset: number, value: number): void {
    if ((this.#lcr & LCR_DLAB) !== 0 && offset <= REG.IER) {
      const shift = 8 * offset;
      this.#divisor = (this.#divisor & ~(0xff << shift)) | (value << shift);
      return;
    }
    switch (offset) {
      case REG.DATA:
        this.#transmit(value);
        return;
      case REG.IER:
        // Enabling the transmitter's interrupt while it is empty raises it at once.
        if ((value & ~this.#ier & IER.THR_EMPTY) !== 0) this.#thrInterrupt = true;
        this.#ier = value & 0x0f;
        this.#update();
        return;
      case REG.IIR_FCR:
        this.#writeFcr(value);
        return;
      case REG.LCR:
        this.#writeLcr(value);
        return;
      case REG.MCR:
        this.#writeMcr(value & 0x1f);
        return;
      case REG.SCRATCH:
        this.#scratch = value;
        return;
      default:
      // LSR and MSR are read-only.
    }
  }

  #transmit(byte: number): void {
    this.#thrInterrupt = false;
    this.#update();
    if (this.#loops) {
      this.#loopBack({ byte, flags: 0 });
    } else {
      this.#output[this.#outputLength++] = byte;
      if (this.#outputLength === OUTPUT_BYTES) this.flush();
    }
    this.#thrInterrupt = true;
    this.#update();
  }

  #loopBack(entry: Received): void {
    if (this.#received.length < this.#capacity) this.#received.push(entry);
    else this.#overrun = LSR.OVERRUN;
    this.#arrived();
  }

  #writeFcr(value: number): void {
    const modeChanged = ((value ^ this.#fcr) & FCR.ENABLE) !== 0;
    if (modeChanged || (value & FCR.CLEAR_RX) !== 0) {
      // What the FIFO loses was sent to the machine that the guest is starting: real ports lose it, too.
      this.#received = [];
      this.#timedOut = false;
    }
    if (modeChanged || (value & FCR.CLEAR_TX) !== 0) this.#thrInterrupt = true;
    this.#fcr = (value & FCR.ENABLE) !== 0 ? value & 0xc9 : 0;
    this.#receive();
    this.#armTimeout();
    this.#update();
  }

  #writeLcr(value: number): void {
    const startsBreak = (value & ~this.#lcr & LCR_BREAK) !== 0;
    this.#lcr = value;
    if (startsBreak && this.#loops) this.#loopBack({ byte: 0, flags: LSR.BREAK });
  }

  #writeMcr(value: number): void {
    this.#mcr = value;
    if ((value & MCR.RTS) !== 0 && !this.#loops) this.#usesRts = true;
    const status = this.#modemStatus();
    const changed = status ^ this.#lastMsr;
    this.#lastMsr = status;
    this.#msrDelta |= (changed & (MSR.CTS | MSR.DSR | MSR.DCD)) >>> 4;
    // Ring indicator reports only its trailing edge.
    if ((changed & MSR.RI) !== 0 && (status & MSR.RI) === 0) this.#msrDelta |= 4;
    this.#receive();
    this.#update();
  }

  /** On the PC, OUT2 gates the interrupt; in loopback the pin is inactive. */
  #update(): void {
    const isGated = (this.#mcr & MCR.OUT2) === 0 || this.#loops;
    this.#irq.set(!isGated && this.#interruptId() !== IIR.NONE);
  }
}
