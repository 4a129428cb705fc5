/**
 * For a test, in a network namespace of its own: a guest behind NAT pings the host's 127.0.0.2, over IPv4, and ::1, over IPv6.
 * Prints what kind of ICMP message answers, and whether it has the guest's identifier and data. Then it asks for a TCP
 * connection to where the namespace has no way, and prints the answer's type and code and what it quotes.
 */
import { fold, sumOf } from '../offload/offload.ts';
import { startSwitch } from '../index.ts';
import { AS_THE_USER } from '../nat/policy.ts';
import { buildIpv4, PROTOCOL_ICMP } from '../wire/ipv4.ts';
import { parseIp } from '../wire/address.ts';
import { FakeGuest, macOf } from './fake-guest.ts';
import { SYN, TcpGuest } from './tcp-guest.ts';
import { ethernet, ETHERTYPE_IPV6, ip6 } from './packets.ts';

const PROTOCOL_ICMPV6 = 58;
const ID = 0x1234;

function echo(type: number, pseudo: number): Buffer {
  const message = Buffer.from([type, 0, 0, 0, ID >> 8, ID & 255, 0, 1, ...Buffer.from('echo')]);
  message.writeUInt16BE(~fold(pseudo + sumOf(message, 0, message.length)) & 0xffff, 2);
  return message;
}

const handle = await startSwitch({
  onError: (error) => {
    throw error;
  },
});
try {
  const network = { id: 'net', name: 'lab', subnet: '10.0.2.0/24', nat: AS_THE_USER };
  await handle.createNetwork({ ...network, uplink: { kind: 'nat' } });
  const mac = macOf(1);
  const guest = new FakeGuest(mac, await handle.attach({ networkId: 'net', portId: 'a', name: 'a', mac }));
  const gateway = (await handle.ports('net')).find(({ id }) => id === 'gateway')!.mac;
  const tell = (answer: Buffer, at: number): void => {
    const isOurs = answer.readUInt16BE(at + 4) === ID && answer.toString('latin1', at + 8) === 'echo';
    console.log(`type ${answer[at]} ${isOurs ? 'ours' : 'other'}`);
  };
  const [source, destination] = [parseIp('10.0.2.15')!, parseIp('127.0.0.2')!];
  const packet = buildIpv4({ source, destination, protocol: PROTOCOL_ICMP, payload: echo(8, 0) });
  guest.nic.send([ethernet(gateway, mac, 0x0800, packet)]);
  tell(Buffer.from(await guest.take((frame) => frame[12] === 8 && frame[13] === 0)), 34);
  const empty = Buffer.from(ip6({ from: 'fd00::15', to: '::1', next: PROTOCOL_ICMPV6, payload: [] }));
  const message = echo(128, sumOf(empty, 8, 32) + PROTOCOL_ICMPV6 + 12);
  const packet6 = ip6({ from: 'fd00::15', to: '::1', next: PROTOCOL_ICMPV6, payload: [...message] });
  guest.nic.send([ethernet(gateway, mac, ETHERTYPE_IPV6, packet6)]);
  tell(Buffer.from(await guest.take((frame) => frame[12] === 0x86 && frame[13] === 0xdd)), 54);
  const ends = { gatewayMac: gateway, from: '10.0.2.15', to: '198.51.100.1', fromPort: 5000, toPort: 9 };
  new TcpGuest(guest, ends).send({ flags: SYN, sequence: 77 });
  const answer = Buffer.from(await guest.take((frame) => frame[12] === 8 && frame[13] === 0));
  const [ports, number] = [
    `${answer.readUInt16BE(62)} to ${answer.readUInt16BE(64)}`,
    answer.readUInt32BE(66),
  ];
  const addresses = [54, 58].map((at) => answer.subarray(at, at + 4).join('.')).join(' to ');
  console.log(`type ${answer[34]} code ${answer[35]}: ${addresses}, ${ports}, ${number}`);
} finally {
  await handle.close();
}
