/** The bytes before frames, as linux.uml sends them. */
import { expect, test } from 'vitest';
import { inetAddress } from './inet-address.ts';
import { greHeader, l2tpv3Header } from './tunnel-header.ts';

const ENDS = { local: '10.0.0.1', remote: '10.0.0.2' } as const;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

test('GRE, with keys and a sequence', () => {
  const header = greHeader({
    kind: 'gre',
    ...ENDS,
    receive_key: 7,
    send_key: 0x0a0b0c0d,
    sequence: 'counts',
  });
  expect(hex(header.next())).toBe('300065580a0b0c0d00000001');
  expect(hex(header.next())).toBe('300065580a0b0c0d00000002');
  const packet = Buffer.from(`ffff30006558000000070000cafe${'00'.repeat(14)}`, 'hex');
  expect(header.frameStart(packet, 2, packet.length)).toBe(14);
  // Cut off, of another key, without a sequence.
  expect(header.frameStart(packet, 2, 13)).toBe(-1);
  for (const other of ['300065580000000800000001', '200065580000000700000001', '300008000000000700000001'])
    expect(header.frameStart(Buffer.from(other, 'hex'), 0, 12)).toBe(-1);
  expect(hex(greHeader({ kind: 'gre', ...ENDS, sequence: 'none' }).next())).toBe('00006558');
  const zero = greHeader({ kind: 'gre', ...ENDS, sequence: 'zero' });
  expect([hex(zero.next()), hex(zero.next())]).toEqual(['1000655800000000', '1000655800000000']);
});

test('L2TPv3, by UDP and by IP', () => {
  const tunnel = { kind: 'l2tpv3', ...ENDS, receive_session: 5, send_session: 0x55667788 } as const;
  const ports = { local_port: 1, remote_port: 2 };
  const cookies = { receive_cookie: '0000000000000009', send_cookie: 'a1a2a3a4' };
  const udp = l2tpv3Header({
    ...tunnel,
    ...ports,
    ...cookies,
    receive_cookie: '00000009',
    counter: 'counts',
  });
  expect(hex(udp.next())).toBe('0003000055667788a1a2a3a400000001');
  const packet = Buffer.from('00030000' + '00000005' + '00000009' + '00000000' + 'ff', 'hex');
  expect(udp.frameStart(packet, 0, packet.length)).toBe(16);
  const long = { receive_cookie: '0000000000000009', send_cookie: 'a1a2a3a4a5a6a7a8' };
  const ip = l2tpv3Header({ ...tunnel, ...long, send_session: 2, counter: 'none' });
  expect(hex(ip.next())).toBe('00000002a1a2a3a4a5a6a7a8');
  expect(ip.frameStart(Buffer.from('000000050000000000000009ff', 'hex'), 0, 13)).toBe(12);
  expect(ip.frameStart(Buffer.from('000000050000000000000008ff', 'hex'), 0, 13)).toBe(-1);
  expect(ip.frameStart(Buffer.from('000000040000000000000009ff', 'hex'), 0, 13)).toBe(-1);
});

test('addresses of sockets', () => {
  expect(hex(inetAddress('10.1.2.3', 258))).toBe('020001020a0102030000000000000000');
  const v6 = (address: string): string => hex(inetAddress(address, 258)).slice(16, 48);
  expect(hex(inetAddress('::1', 258))).toBe(`0a000102${'00000000'}${'0'.repeat(31)}1${'00000000'}`);
  expect(v6('fd00:10::a:ffff')).toBe('fd0000100000000000000000000affff');
  expect(v6('::')).toBe('0'.repeat(32));
  expect(v6('1:2:3:4:5:6:7:8')).toBe('00010002000300040005000600070008');
  expect(v6('::ffff:10.1.2.3')).toBe('00000000000000000000ffff0a010203');
});
