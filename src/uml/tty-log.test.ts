import { describe, expect, test } from 'vitest';
import { asciicast, castEvents } from './asciicast.ts';
import {
  DIRECTION,
  encodeTtyRecord,
  OPERATION,
  TtyLogger,
  type TtyRecord,
  ttyName,
  ttyNumber,
  ttyRecords,
} from './tty-log.ts';

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const RECORDS: TtyRecord[] = [
  { operation: OPERATION.OPEN, tty: 0x200, direction: 0, time: 1_700_000_000_000, data: new Uint8Array(4) },
  {
    operation: OPERATION.WRITE,
    tty: 0x200,
    direction: DIRECTION.WRITE,
    time: 1_700_000_000_250,
    data: text('hallo ö'.slice(0, 6)),
  },
  {
    operation: OPERATION.WRITE,
    tty: 0x100,
    direction: DIRECTION.WRITE,
    time: 1_700_000_000_300,
    data: text('other'),
  },
  {
    operation: OPERATION.WRITE,
    tty: 0x200,
    direction: DIRECTION.READ,
    time: 1_700_000_001_500.5,
    data: text('ls\r'),
  },
  { operation: OPERATION.CLOSE, tty: 0x200, direction: 0, time: 1_700_000_002_000, data: new Uint8Array(0) },
];
const LOG = Buffer.concat(RECORDS.map(encodeTtyRecord));

describe('a log of terminals', () => {
  test('has the header of UML on 32 bits, byte for byte', () => {
    const record = { operation: 3, tty: 0x101, direction: 2, time: 1_234_567_890_500, data: text('AB') };
    expect(Buffer.from(encodeTtyRecord(record)).toString('hex')).toBe(
      '03000000' + '01010000' + '02000000' + '02000000' + 'd2029649' + '20a10700' + '4142',
    );
  });

  test('is read as it was written, without an end that is cut off', () => {
    expect([...ttyRecords(LOG)].map((record) => ({ ...record, data: new Uint8Array(record.data) }))).toEqual(
      RECORDS,
    );
    expect([...ttyRecords(LOG.subarray(0, LOG.length - 30))]).toHaveLength(RECORDS.length - 2);
    expect([...ttyRecords(new Uint8Array(0))]).toEqual([]);
    expect(() => [...ttyRecords(Buffer.from('#!/bin/sh\necho this is something else\n'))]).toThrow(
      RangeError,
    );
  });

  test('of a 64-bit kernel is read too', () => {
    const wide = Buffer.alloc(43);
    wide.writeInt32LE(3, 0);
    wide.writeBigUInt64LE(0x6000_1234n, 8);
    wide.writeInt32LE(3, 16);
    wide.writeInt32LE(2, 20);
    wide.writeBigUInt64LE(1_000n, 24);
    wide.writeBigUInt64LE(5_000n, 32);
    wide.write('abc', 40);
    const [record] = [...ttyRecords(wide)];
    expect(record).toMatchObject({ operation: 3, tty: 0x6000_1234, direction: 2, time: 1_000_005 });
    expect(Buffer.from(record!.data).toString()).toBe('abc');
  });

  test('knows the consoles by number', () => {
    for (const name of ['hvc0', 'hvc15', 'ttyS0', 'ttyS3']) expect(ttyName(ttyNumber(name))).toBe(name);
    expect(ttyName(0x6000_1234)).toBe('tty-60001234');
  });
});

describe('an asciicast', () => {
  test('has one console, in seconds from its first character', () => {
    const lines = [...asciicast(ttyRecords(LOG), 'ttyS0')].map((line) => JSON.parse(line) as unknown);
    expect(lines).toEqual([
      { version: 2, width: 80, height: 24, timestamp: 1_700_000_000, title: 'ttyS0' },
      [0, 'o', 'hallo '],
      [1.2505, 'i', 'ls\r'],
    ]);
  });

  test('has the size of the terminal, and its changes', () => {
    const records: Uint8Array[] = [];
    const logger = new TtyLogger((record) => records.push(record));
    logger.resized('hvc0', 132, 43);
    logger.bytes('hvc0', 'shown', Buffer.from('a'));
    logger.resized('hvc0', 100, 30);
    logger.end();
    const lines = [...asciicast(ttyRecords(Buffer.concat(records)), 'hvc0')];
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      expect.objectContaining({ width: 132, height: 43 }),
      [0, 'o', 'a'],
      [expect.any(Number), 'r', '100x30'],
    ]);
  });

  test('puts characters together that came in pieces', () => {
    const pieces = [0xc3, 0xb6].map((byte, n) => ({ ...RECORDS[1]!, time: n, data: Uint8Array.of(byte) }));
    const [, ...events] = [...asciicast(pieces, 'ttyS0')];
    expect(events.map((line) => JSON.parse(line) as unknown)).toEqual([[0.001, 'o', 'ö']]);
  });

  test('is read again', () => {
    const cast = [...asciicast(ttyRecords(LOG), 'ttyS0')].join('');
    expect(castEvents(`${cast}[1.5, "r", "80x24"]\n[2, "o", "cut o`)).toEqual([
      { at: 0, kind: 'o', text: 'hallo ' },
      { at: 1.2505, kind: 'i', text: 'ls\r' },
    ]);
    expect(() => castEvents('{"version": 1}')).toThrow(RangeError);
    expect(() => castEvents('')).toThrow(RangeError);
  });
});
