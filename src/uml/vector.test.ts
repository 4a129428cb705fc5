import { describe, expect, it } from 'vitest';
import { parseCommandLine } from './command-line.ts';
import { parseVector } from './vector.ts';

describe('a vector device', () => {
  it.each([
    ['vec0:transport=tap,ifname=tap0', 0, { kind: 'tuntap', device: 'tap0' }, undefined],
    [
      'vec3:ifname=tap7,mac=02:00:00:00:00:07,transport=hybrid',
      3,
      { kind: 'tuntap', device: 'tap7' },
      '02:00:00:00:00:07',
    ],
    [
      'vec1:transport=raw,ifname=eth1',
      1,
      { kind: 'pcap', interface: 'eth1', filter: '', promiscuous: true },
      undefined,
    ],
    [
      'vec1:transport=vde,vnl=vde:///run/vde.ctl,mac=02:00:00:00:00:07',
      1,
      { kind: 'vde', folder: '/run/vde.ctl', port: 0, description: 'umlaut' },
      '02:00:00:00:00:07',
    ],
    [
      'vec0:transport=gre,src=10.0.0.1,dst=10.0.0.2',
      0,
      { kind: 'gre', local: '10.0.0.1', remote: '10.0.0.2', sequence: 'none' },
      undefined,
    ],
    [
      'vec0:transport=gre,v6=1,src=fd00::1,dst=fd00::2,rx_key=0x0a0b0c0d,tx_key=010,sequence=1',
      0,
      {
        ...{ kind: 'gre', local: 'fd00::1', remote: 'fd00::2' },
        ...{ receive_key: 0x0a0b0c0d, send_key: 8, sequence: 'counts' },
      },
      undefined,
    ],
    [
      'vec0:transport=l2tpv3,udp=1,src=10.0.0.1,dst=10.0.0.2,srcport=1701,dstport=1702,rx_session=1,tx_session=0x55667788,rx_cookie=2,tx_cookie=0xa1a2a3a4,counter=1',
      0,
      {
        ...{ kind: 'l2tpv3', local: '10.0.0.1', remote: '10.0.0.2', local_port: 1701, remote_port: 1702 },
        ...{ receive_session: 1, send_session: 0x55667788 },
        ...{ receive_cookie: '00000002', send_cookie: 'a1a2a3a4', counter: 'counts' },
      },
      undefined,
    ],
    [
      'vec0:transport=l2tpv3,src=10.0.0.1,dst=10.0.0.2,rx_session=1,tx_session=2,cookie64=1,rx_cookie=0,tx_cookie=0xa1a2a3a4a5a6a7a8,counter=1,pin_counter=1',
      0,
      {
        ...{ kind: 'l2tpv3', local: '10.0.0.1', remote: '10.0.0.2', receive_session: 1, send_session: 2 },
        ...{ receive_cookie: '0000000000000000', send_cookie: 'a1a2a3a4a5a6a7a8', counter: 'zero' },
      },
      undefined,
    ],
    ['vec0:transport=bess,dst=/tmp/bess', 0, { kind: 'bess', socket: '/tmp/bess' }, undefined],
    [
      'vec0:transport=bess,src=/tmp/own,dst=/tmp/bess',
      0,
      { kind: 'bess', socket: '/tmp/bess', local: '/tmp/own' },
      undefined,
    ],
  ])('%s', (word, unit, transport, mac) =>
    expect(parseVector(word)).toEqual({ unit, eth: { transport, mac, warnings: [] } }),
  );

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
    ['vec0:transport=fd,fd=3', /transport "fd"/],
    ['vec0:transport=gre,src=10.0.0.1', /names no dst/],
    ['vec0:transport=gre,src=10.0.0.1,dst=somewhere', /remote/],
    ['vec0:transport=gre,src=fd00::1,dst=fd00::2', /addresses of IPv6/],
    ['vec0:transport=gre,src=10.0.0.1,dst=10.0.0.2,v6=1', /addresses of IPv4/],
    ['vec0:transport=gre,src=10.0.0.1,dst=fd00::2', /remote/],
    ['vec0:transport=gre,src=10.0.0.1,dst=10.0.0.2,rx_key=1', /send_key: give both/],
    ['vec0:transport=gre,src=10.0.0.1,dst=10.0.0.2,rx_key=x,tx_key=1', /rx_key that is no number/],
    ['vec0:transport=gre,src=10.0.0.1,dst=10.0.0.2,rx_key=0x100000000,tx_key=1', /rx_key that is no number/],
    ['vec0:transport=gre,src=10.0.0.1,dst=10.0.0.2,ifname=tap0', /a setting ifname that gre/],
    ['vec0:transport=l2tpv3,src=10.0.0.1,dst=10.0.0.2,rx_session=1', /send_session/],
    ['vec0:transport=l2tpv3,src=10.0.0.1,dst=10.0.0.2,rx_session=1,tx_session=1,udp=1', /no ports for UDP/],
    ['vec0:transport=l2tpv3,src=10.0.0.1,dst=10.0.0.2,rx_session=1,tx_session=1,rx_cookie=1', /both cookies/],
    ['vec0:transport=bess,src=/tmp/own', /names no dst/],
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
