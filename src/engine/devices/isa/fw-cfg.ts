/** QEMU's firmware configuration interface: QEMU docs/specs/fw_cfg.rst. */
import type { Board, Device, IoRegion } from '../../machine/bus.ts';
import { GuestAddressError } from '../../machine/guest-memory.ts';

export const FW_CFG_PORT = 0x510;
/** Selector, data and the two halves of the DMA address. */
export const FW_CFG_BYTES = 12;

/** Well-known keys. */
export const FW_CFG_KEY = {
  SIGNATURE: 0x00,
  ID: 0x01,
  RAM_SIZE: 0x03,
  CPUS: 0x05,
  KERNEL_SIZE: 0x08,
  INITRD_SIZE: 0x0b,
  CPUS_MAX: 0x0f,
  KERNEL_DATA: 0x11,
  INITRD_DATA: 0x12,
  COMMAND_LINE_SIZE: 0x14,
  COMMAND_LINE_DATA: 0x15,
  FILE_DIRECTORY: 0x19,
  FILE_FIRST: 0x20,
} as const;

const ID_TRADITIONAL = 1;
const ID_DMA = 2;
const DMA = { ERROR: 1, READ: 2, SKIP: 4, SELECT: 8, WRITE: 16 } as const;
const DMA_SIGNATURE = 'QEMU CFG';
const NAME_BYTES = 56;
const NOTHING = new Uint8Array(0);

export class FwCfg implements Device {
  readonly name = 'fw_cfg';
  readonly #board: Board;
  readonly #items = new Map<number, () => Uint8Array>();
  readonly #files: { readonly name: string; readonly key: number }[] = [];
  /** What is selected; NOTHING where there is no such key. */
  #item: Uint8Array = NOTHING;
  #offset = 0;
  #dmaHigh = 0;

  constructor(board: Board) {
    this.#board = board;
    this.add(FW_CFG_KEY.SIGNATURE, new TextEncoder().encode('QEMU'));
    this.add32(FW_CFG_KEY.ID, ID_TRADITIONAL | ID_DMA);
    this.#items.set(FW_CFG_KEY.FILE_DIRECTORY, () => this.#directory());
    this.reset();
    board.ports.map(FW_CFG_PORT, 2, this.#controlRegion());
    board.ports.map(FW_CFG_PORT + 4, 8, this.#dmaRegion());
  }

  reset(): void {
    this.#dmaHigh = 0;
    this.#select(FW_CFG_KEY.SIGNATURE);
  }

  add(key: number, data: Uint8Array): void {
    this.#items.set(key, () => data);
  }

  /** Adds a large item, and its size under a key of its own; it is read whenever the guest selects one of them. */
  addContent(sizeKey: number, key: number, read: () => Uint8Array): void {
    this.#items.set(sizeKey, () => new Uint8Array(Uint32Array.of(read().length).buffer));
    this.#items.set(key, read);
  }

  add16(key: number, value: number): void {
    this.add(key, new Uint8Array(Uint16Array.of(value).buffer));
  }
  add32(key: number, value: number): void {
    this.add(key, new Uint8Array(Uint32Array.of(value).buffer));
  }
  add64(key: number, value: number): void {
    this.add(key, new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  }

  /** Adds a named file; throws RangeError for a name longer than 55 bytes. */
  addFile(name: string, data: Uint8Array): void {
    if (name.length >= NAME_BYTES) throw new RangeError(`the fw_cfg file name ${name} is too long`);
    const key = FW_CFG_KEY.FILE_FIRST + this.#files.length;
    this.#files.push({ name, key });
    this.add(key, data);
  }

  #directory(): Uint8Array {
    const bytes = new Uint8Array(4 + this.#files.length * (8 + NAME_BYTES));
    const view = new DataView(bytes.buffer);
    view.setUint32(0, this.#files.length);
    this.#files.forEach(({ name, key }, index) => {
      const at = 4 + index * (8 + NAME_BYTES);
      view.setUint32(at, this.#items.get(key)!().length);
      view.setUint16(at + 4, key);
      bytes.set(new TextEncoder().encode(name), at + 8);
    });
    return bytes;
  }

  /** Selector (16 bits, write) at 0; data (8 bits, read) at 1. */
  #controlRegion(): IoRegion {
    return {
      name: 'fw_cfg',
      read: (offset, size) => (offset === 1 && size === 1 ? this.#nextByte() : 0),
      write: (offset, size, value) => {
        if (offset === 0 && size === 2) this.#select(value);
      },
    };
  }

  /** The 64-bit address register, big-endian; writing its low half starts the transfer. */
  #dmaRegion(): IoRegion {
    return {
      name: 'fw_cfg DMA',
      read: (offset, size) => {
        let value = 0;
        for (let i = 0; i < size; i++) value |= (DMA_SIGNATURE.charCodeAt(offset + i) & 0xff) << (8 * i);
        return value >>> 0;
      },
      write: (offset, size, value) => {
        if (size !== 4) return;
        const bigEndian = new DataView(Uint32Array.of(value).buffer).getUint32(0);
        if (offset === 0) this.#dmaHigh = bigEndian;
        else if (offset === 4) this.#dma(this.#dmaHigh * 0x1_0000_0000 + bigEndian);
      },
    };
  }

  #select(key: number): void {
    this.#item = this.#items.get(key)?.() ?? NOTHING;
    this.#offset = 0;
  }

  #nextByte(): number {
    return this.#item[this.#offset++] ?? 0;
  }

  #dma(gpa: number): void {
    this.#dmaHigh = 0;
    const memory = this.#board.memory;
    if (memory.ramOffset(gpa, 16) < 0) return;
    const bytes = memory.readable(gpa, 16);
    const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
    const control = view.getUint32(0);
    const length = view.getUint32(4);
    const address = Number(view.getBigUint64(8));
    if ((control & DMA.SELECT) !== 0) this.#select(control >>> 16);
    let status = 0;
    try {
      if ((control & DMA.READ) !== 0) this.#dmaRead(address, length);
      else if ((control & DMA.WRITE) !== 0) status = DMA.ERROR;
      if ((control & (DMA.READ | DMA.SKIP)) !== 0) this.#offset += length;
    } catch (error) {
      if (!(error instanceof GuestAddressError)) throw error;
      status = DMA.ERROR;
    }
    view.setUint32(0, status);
    memory.written(gpa, 4);
  }

  #dmaRead(address: number, length: number): void {
    const target = this.#board.memory.writable(address, length);
    target.fill(0);
    target.set(this.#item.subarray(this.#offset, this.#offset + length));
    this.#board.memory.written(address, length);
  }
}
