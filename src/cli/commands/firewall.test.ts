import { expect, test } from 'vitest';
import { FirewallRule } from '../../contracts/api/index.ts';
import { formatRule, parseRule } from './firewall.ts';

test.each([
  'in allow',
  'out deny',
  'in allow tcp 22',
  'in allow tcp 8000-8100 from 10.0.0.0/8,fd00::/8',
  'out allow udp 53 to 192.0.2.1/32',
  'out deny icmp',
  'in allow udp',
  'in allow tcp 5432 from @web,@jobs',
  'out deny to 10.0.0.0/8,@web',
])('%s is read and written alike', (text) => {
  expect(formatRule(FirewallRule.parse(parseRule(text)))).toBe(text);
});

test.each([
  '',
  'allow in',
  'in allow sctp',
  'in allow tcp 22 to 10.0.0.0/8',
  'out allow from 10.0.0.0/8',
  'in allow 22',
])('"%s" is refused', (text) => {
  expect(() => parseRule(text)).toThrow('Write it as in|out');
});
