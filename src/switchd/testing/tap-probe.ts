/**
 * For a test, in a network namespace of its own: a switch with a TAP device, whose kernel end a client asks by ARP for
 * its address. Prints the answer's sender. Arguments: control socket, device.
 */
import { execFileSync } from 'node:child_process';
import { UmlSwitch } from '../uml/control-server.ts';
import { UmlClient } from './uml-client.ts';

const [path = '', device = ''] = process.argv.slice(2);
const ANSWERS_MAX = 20;
const ARP_REPLY = '08060001080006040002';
const request = Buffer.from(
  'ffffffffffff0200000000010806' + // Ethernet (RFC 826)
    '0001080006040001' +
    '0200000000010a080002' +
    '0000000000000a080001',
  'hex',
);

const ethernet = await UmlSwitch.start({
  path,
  taps: [device],
  onError: (error) => {
    throw error;
  },
});
execFileSync('ip', ['address', 'add', '10.8.0.1/24', 'dev', device]);
execFileSync('ip', ['link', 'set', device, 'up']);
const client = await UmlClient.join(path);
client.send(request);
for (let i = 0; i < ANSWERS_MAX; i++) {
  // The kernel also says other things on a device that comes up.
  const frame = Buffer.from(client.receive() ?? []).toString('hex');
  if (frame.slice(24, 44) !== ARP_REPLY) continue;
  console.log(`answer from ${frame.slice(56, 64)}`);
  break;
}
await client.die();
await ethernet.close();
