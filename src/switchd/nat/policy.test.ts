import { networkInterfaces } from 'node:os';
import { expect, test } from 'vitest';
import { parseIp } from '../wire/address.ts';
import { parseIp6 } from '../wire/address6.ts';
import { uint32 } from '../wire/dhcp.ts';
import { AS_THE_USER, INTERNET_ONLY, NatPolicy, natPolicy } from './policy.ts';

function bytesOf(address: string): Uint8Array {
  return address.includes(':') ? parseIp6(address)! : uint32(parseIp(address)!);
}

const INTERNET = ['198.51.100.1', '8.8.8.8', '2001:db8::1'];
const PRIVATE = [
  ...[
    '0.0.0.1',
    '10.1.2.3',
    '100.64.0.1',
    '127.0.0.1',
    '169.254.169.254',
    '172.16.0.1',
    '192.168.1.1',
    '198.18.0.1',
  ],
  ...['::', '::1', '::ffff:10.0.0.1', '64:ff9b::a00:1', 'fd00::1', 'fe80::1'],
].map((address) => address.replace('::ffff:10.0.0.1', '::ffff:a00:1'));
const NOBODY = ['224.0.0.1', '239.1.1.1', '240.0.0.1', '255.255.255.255', 'ff02::1'];

test('tenants reach the Internet and nothing else', () => {
  const policy = new NatPolicy(INTERNET_ONLY);
  for (const address of INTERNET) expect(policy.route(bytesOf(address)), address).toBeDefined();
  for (const address of [...PRIVATE, ...NOBODY])
    expect(policy.route(bytesOf(address)), address).toBeUndefined();
});

test('the host’s own addresses are not the Internet', () => {
  const policy = new NatPolicy(INTERNET_ONLY);
  const own = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  expect(own.length).toBeGreaterThan(0);
  for (const { address } of own)
    expect(policy.route(bytesOf(address.split('%', 1)[0]!)), address).toBeUndefined();
});

test('what an operator allows is added, and no more', () => {
  const policy = new NatPolicy(natPolicy(['10.1.0.0/16', 'fd00::/64', 'host']));
  expect(policy.hostLoopback).toBe(true);
  for (const address of ['10.1.2.3', 'fd00::1'])
    expect(policy.route(bytesOf(address)), address).toBe(address);
  for (const address of ['10.2.0.1', 'fd00:1::1', '127.0.0.1'])
    expect(policy.route(bytesOf(address))).toBeUndefined();
});

test('a guest of the user’s own goes where the user may, but not to groups', () => {
  const policy = new NatPolicy(AS_THE_USER);
  for (const address of ['10.1.2.3', '192.168.1.1', 'fd00::1'])
    expect(policy.route(bytesOf(address))).toBeDefined();
  for (const address of NOBODY) expect(policy.route(bytesOf(address)), address).toBeUndefined();
});

test.each(['10.0.0.0', '10.0.0.0/33', 'fd00::/129', 'everything', '10.0.0.0/x', ''])(
  '"%s" is refused',
  (text) => {
    expect(() => natPolicy([text])).toThrow(
      expect.objectContaining({ code: 'invalid_input', field: 'nat_allow' }),
    );
  },
);
