import { expect, test } from 'vitest';
import { AddressSpace, byteRegion } from './io-space.ts';

function recorder(name: string): { log: string[]; region: ReturnType<typeof byteRegion> } {
  const log: string[] = [];
  const region = {
    name,
    read: (offset: number, size: number) => {
      log.push(`r${offset}:${size}`);
      return 0x1234_5678;
    },
    write: (offset: number, size: number, value: number) => void log.push(`w${offset}:${size}=${value}`),
  };
  return { log, region };
}

test('unclaimed reads are all ones, unclaimed writes vanish', () => {
  const space = new AddressSpace('port');
  expect(space.read(0x80, 1)).toBe(0xff);
  expect(space.read(0x80, 2)).toBe(0xffff);
  expect(space.read(0x80, 4)).toBe(0xffff_ffff);
  space.write(0x80, 4, 1);
});

test('an access goes to its region, cut to its size', () => {
  const space = new AddressSpace('port');
  const { log, region } = recorder('device');
  space.map(0x100, 8, region);
  expect(space.read(0x104, 4)).toBe(0x1234_5678);
  space.write(0x102, 2, 0xdead_beef);
  expect(log).toEqual(['r4:4', `w2:2=${0xbeef}`]);
});

test('an access across the end of a region is made of bytes', () => {
  const space = new AddressSpace('port');
  space.map(
    0x100,
    2,
    byteRegion(
      'low',
      (offset) => 0x10 + offset,
      () => {},
    ),
  );
  expect(space.read(0x101, 2)).toBe(0xff11);
  expect(space.read(0xff, 2)).toBe(0x10ff);
});

test('overlaps are refused, and a removed region leaves its place', () => {
  const space = new AddressSpace('port');
  const remove = space.map(0x100, 8, recorder('first').region);
  expect(() => space.map(0x107, 1, recorder('second').region)).toThrow(/second.*overlaps first/);
  space.read(0x100, 1);
  remove();
  expect(space.read(0x100, 1)).toBe(0xff);
  space.map(0x107, 1, recorder('second').region);
});

test('a byte register inside a wider one gets byte accesses only', () => {
  const space = new AddressSpace('port');
  const wide = recorder('wide');
  const byte = recorder('byte');
  space.map(0xcf8, 8, wide.region);
  space.mapByte(0xcf9, byte.region);
  space.write(0xcf9, 1, 6);
  space.write(0xcf8, 4, 0x8000_0000);
  expect(byte.log).toEqual(['w0:1=6']);
  expect(wide.log).toEqual([`w0:4=${0x8000_0000}`]);
});
