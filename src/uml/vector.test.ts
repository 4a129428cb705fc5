import { describe, expect, it } from 'vitest';
import { parseCommandLine } from './command-line.ts';
import { parseVector } from './vector.ts';

describe('a vector device', () => {
  it.each([
    ['vec0:transport=tap,ifname=tap0', 0, 'tuntap,tap0,'],
    ['vec3:ifname=tap7,mac=02:00:00:00:00:07,transport=hybrid', 3, 'tuntap,tap7,02:00:00:00:00:07'],
    ['vec1:transport=raw,ifname=eth1', 1, 'pcap,eth1,,,,'],
    ['vec1:transport=vde,vnl=vde:///run/vde.ctl', 1, 'vde,/run/vde.ctl,'],
    ['vec1:transport=vde,vnl=/run/vde.ctl,mac=02:00:00:00:00:07', 1, 'vde,/run/vde.ctl,02:00:00:00:00:07'],
  ])('%s', (word, unit, text) => expect(parseVector(word)).toEqual({ unit, text, warnings: [] }));

  it('is a card of the machine', () => {
    const line = parseCommandLine([
      'vec1:transport=tap,ifname=tap0,depth=128,mac=02:00:00:00:00:07',
      'quiet',
    ]);
    expect([...line.eths]).toEqual([
      [
        1,
        expect.objectContaining({ transport: { kind: 'tuntap', device: 'tap0' }, mac: '02:00:00:00:00:07' }),
      ],
    ]);
    expect(line.warnings).toEqual([expect.stringMatching(/^depth of vec1:.* has no effect here$/)]);
    expect(line.guest).toEqual(['quiet']);
  });

  it.each([
    ['vec0', /':'/],
    ['vec0=tap', /':'/],
    ['vec0:', /':'/],
    ['vec0:transport', /without a '='/],
    ['vec0:ifname=tap0', /transport ""/],
    ['vec0:transport=l2tpv3,src=a,dst=b', /transport "l2tpv3"/],
    ['vec0:transport=constructor', /transport "constructor"/],
    ['vec0:transport=tap', /names no ifname/],
    ['vec0:transport=tap,ifname=', /names no ifname/],
    ['vec0:transport=tap,ifname=tap0,ifup=/bin/true', /a setting ifup/],
    ['vec0:transport=vde,vnl=slirp://', /locator slirp/],
    ['vec9:transport=tap,ifname=tap0', /out of range/],
    ['vec0:transport=tap,ifname=a/b', /name of a network interface/],
  ])('%s is refused', (word, message) => {
    expect(() => parseCommandLine([word])).toThrow(
      expect.objectContaining({ code: 'invalid_input', message: expect.stringMatching(message) }),
    );
  });

  it('has its number for itself', () => {
    const words = ['eth0=slirp', 'vec0:transport=tap,ifname=tap0'];
    expect(() => parseCommandLine(words)).toThrow(/already configured/);
  });
});
