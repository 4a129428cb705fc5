import { beforeEach, expect, test } from 'vitest';
import { TestBoard } from '../../machine/testing/test-board.ts';
import { FW_CFG_KEY, FwCfg } from './fw-cfg.ts';

let board: TestBoard;
let fwCfg: FwCfg;
function read(key: number, bytes: number): number[] {
  board.ports.write(0x510, 2, key);
  return Array.from({ length: bytes }, () => board.in(0x511));
}

beforeEach(() => {
  board = new TestBoard();
  fwCfg = new FwCfg(board);
});

/** Runs a DMA command whose structure is at 0x1000, and returns its control word afterwards. */
function dma(control: number, length: number, address: number): number {
  const structure = new DataView(new ArrayBuffer(16));
  structure.setUint32(0, control);
  structure.setUint32(4, length);
  structure.setBigUint64(8, BigInt(address));
  board.memory.write(0x1000, new Uint8Array(structure.buffer));
  board.ports.write(0x514, 4, 0);
  board.ports.write(0x518, 4, 0x0010_0000); // 0x1000, big-endian
  const after = board.memory.readable(0x1000, 4);
  return new DataView(after.buffer, after.byteOffset, 4).getUint32(0);
}

test('signature, features, and zeros after the end', () => {
  expect(String.fromCharCode(...read(FW_CFG_KEY.SIGNATURE, 4))).toBe('QEMU');
  expect(read(FW_CFG_KEY.ID, 6)).toEqual([3, 0, 0, 0, 0, 0]);
  expect(read(0x7777, 2)).toEqual([0, 0]);
});

test('integers are little-endian', () => {
  fwCfg.add16(FW_CFG_KEY.CPUS, 1);
  fwCfg.add64(FW_CFG_KEY.RAM_SIZE, 0x1_2345_6789);
  expect(read(FW_CFG_KEY.CPUS, 2)).toEqual([1, 0]);
  expect(read(FW_CFG_KEY.RAM_SIZE, 8)).toEqual([0x89, 0x67, 0x45, 0x23, 0x01, 0, 0, 0]);
});

test('the directory lists files in big-endian, and a file reads by its key', () => {
  fwCfg.addFile('opt/test', new TextEncoder().encode('hello'));
  const directory = read(FW_CFG_KEY.FILE_DIRECTORY, 4 + 64);
  expect(directory.slice(0, 12)).toEqual([0, 0, 0, 1, 0, 0, 0, 5, 0, 0x20, 0, 0]);
  expect(String.fromCharCode(...directory.slice(12, 20))).toBe('opt/test');
  expect(String.fromCharCode(...read(0x20, 5))).toBe('hello');
});

test('DMA selects, skips and reads, and fills up with zeros', () => {
  fwCfg.addFile('file', new TextEncoder().encode('0123456789'));
  board.memory.write(0x2000, new Uint8Array(16).fill(0xee));
  expect(dma((0x20 << 16) | 8 | 4, 4, 0)).toBe(0);
  expect(dma(2, 8, 0x2000)).toBe(0);
  expect(new TextDecoder().decode(board.memory.readable(0x2000, 9).slice())).toBe('456789\0\0\uFFFD');
});

test('DMA to where there is no RAM, and writes, report an error', () => {
  expect(dma((FW_CFG_KEY.ID << 16) | 8 | 2, 4, 0xf000_0000)).toBe(1);
  expect(dma(16, 4, 0x2000)).toBe(1);
});

test('the DMA register identifies itself', () => {
  const bytes = Array.from({ length: 8 }, (_, i) => board.in(0x514 + i));
  expect(String.fromCharCode(...bytes)).toBe('QEMU CFG');
});
