import { describe, expect, it } from 'vitest';
import { parseTransport, formatTransport } from '../contracts/api/transport.ts';
import { parseEth } from './eth.ts';

const parse = (text: string) => parseEth(`eth0=${text}`, '0', text).eth;

describe("UML's network devices", () => {
  it.each([
    ['tuntap,tap0,fe:fd:0:0:0:1', { kind: 'tuntap', device: 'tap0' }, 'fe:fd:00:00:00:01'],
    ['daemon', { kind: 'daemon', socket: '/var/run/uml-utilities/uml_switch.ctl' }, undefined],
    ['daemon,,unix,/tmp/a.ctl', { kind: 'daemon', socket: '/tmp/a.ctl' }, undefined],
    ['daemon,02:00:00:00:00:01,,/x', { kind: 'daemon', socket: '/x' }, '02:00:00:00:00:01'],
    ['mcast', { kind: 'mcast', group: '239.192.168.1', port: 1102, ttl: 1 }, undefined],
    ['mcast,,239.1.1.1,99,3', { kind: 'mcast', group: '239.1.1.1', port: 99, ttl: 3 }, undefined],
    ['ucast,,10.0.0.1,5,6', { kind: 'ucast', remote: '10.0.0.1', local_port: 5, remote_port: 6 }, undefined],
    ['slirp', { kind: 'nat' }, undefined],
    ['slirp,FE:FD:00:00:00:02', { kind: 'nat' }, 'fe:fd:00:00:00:02'],
    ['slip', { kind: 'slip' }, undefined],
    [
      'pcap,eth1,tcp port 80,nopromisc,optimize,02:00:00:00:00:01',
      { kind: 'pcap', interface: 'eth1', filter: 'tcp port 80', promiscuous: false },
      '02:00:00:00:00:01',
    ],
    [
      'vde,/tmp/v,,7',
      { kind: 'vde', folder: '/tmp/v', port: 7, description: 'UML vde_transport' },
      undefined,
    ],
  ])('eth0=%s', (text, transport, mac) => {
    expect(parse(text)).toMatchObject({ transport, mac, warnings: [] });
  });

  it.each([
    ['tuntap', 'umlaut tap create'],
    ['ethertap,tap0', 'use tuntap'],
    ['daemon,,tcp,/x', 'use unix'],
    ['mcast,,10.0.0.1', 'mcast'],
    ['mcast,,239.1.1.1,0', 'mcast'],
    ['pcap,eth0,,fast', 'nopromisc'],
    ['bogus', 'tuntap, daemon'],
    ['constructor', 'tuntap, daemon'],
    ['tuntap,a-name-that-is-too-long', 'tuntap'],
  ])('eth0=%s is refused with a remedy', (text, remedy) => {
    expect(() => parse(text)).toThrow(
      expect.objectContaining({ code: 'invalid_input', remedy: expect.stringContaining(remedy) }),
    );
  });

  it('an address that is no station’s is replaced, with a message', () => {
    for (const mac of ['01:00:00:00:00:00', '0:0:0:0:0:0', 'nonsense']) {
      const eth = parse(`daemon,${mac}`);
      expect(eth.mac).toBeUndefined();
      expect(eth.warnings).toHaveLength(1);
    }
  });

  it.each(['x', '8', '-1', ''])('device number "%s" is refused', (name) => {
    expect(() => parseEth(`eth${name}=daemon`, name, 'daemon')).toThrow('device number');
  });
});

describe('transports on the command line', () => {
  it.each([
    'nat',
    'daemon:/tmp/uml.ctl',
    'vde:/tmp/vde.ctl',
    'mcast:239.192.168.1:1102:1',
    'ucast:10.0.0.1:5:6',
    'tuntap:tap0',
    'pcap:eth0:tcp port 80',
    'slip',
    'gre:local=10.0.0.1,remote=10.0.0.2,receive_key=1,send_key=2,sequence=counts',
    'l2tpv3:local=fd00::1,remote=fd00::2,local_port=1,remote_port=2,receive_session=3,send_session=4,receive_cookie=00000001,send_cookie=00000002,counter=none',
    'bess:/tmp/bess',
  ])('%s', (text) => {
    expect(formatTransport(parseTransport(text, 'uplink'))).toBe(text);
  });

  it.each([
    '',
    'ethertap:x',
    'daemon',
    'mcast:1.2.3.4',
    'tuntap:',
    'nat2',
    'bess:',
    'gre:',
    'gre:local',
    'l2tpv3:local=1.2.3.4,remote=1.2.3.5',
  ])('"%s" is refused', (text) => {
    expect(() => parseTransport(text, 'uplink')).toThrow(
      expect.objectContaining({ code: 'invalid_input', field: 'uplink' }),
    );
  });
});
