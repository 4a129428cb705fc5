/**
 * For a test, in a network namespace of its own: a guest on a network whose uplink is the transport given as JSON asks the host
 * at 10.8.0.1 by ARP for its address. Prints the answer's sender, or the error's code. With a second argument the switch's thread
 * is killed as often before that.
 */
import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import type { Transport } from '../../contracts/api/transport.ts';
import { toAppError } from '../../contracts/errors.ts';
import { startSwitch } from '../index.ts';
import { FakeGuest, macOf } from './fake-guest.ts';

const ARP_REPLY = '08060001080006040002';
const REQUEST = Buffer.from(
  'ffffffffffff0200000000010806' + // Ethernet (RFC 826)
    '0001080006040001' +
    '0200000000010a080002' +
    '0000000000000a080001',
  'hex',
);
const AGAIN_MS = 100;

const started = once(process, 'worker') as Promise<[Worker]>;
const handle = await startSwitch({
  onError: (error) => {
    throw error;
  },
});
let asking: NodeJS.Timeout | undefined;
try {
  const uplink = JSON.parse(process.argv[2] ?? '') as Transport;
  const network = { id: 'net', name: 'net', subnet: '10.8.0.0/24', services: false };
  await handle.createNetwork({ ...network, uplink, uplinkRequired: true });
  const mac = macOf(1);
  const guest = new FakeGuest(mac, await handle.attach({ networkId: 'net', portId: 'a', name: 'a', mac }));
  let [worker] = await started;
  for (let round = 0; round < Number(process.argv[3] ?? 0); round++) {
    const next = once(process, 'worker') as Promise<[Worker]>;
    void worker.terminate();
    [worker] = await next;
  }
  // The host's end may be up only after us.
  asking = setInterval(() => guest.nic.send([REQUEST]), AGAIN_MS);
  const frame = await guest.take((bytes) => Buffer.from(bytes).toString('hex').slice(24, 44) === ARP_REPLY);
  console.log(`answer from ${Buffer.from(frame).toString('hex').slice(56, 64)}`);
} catch (error) {
  console.log(toAppError(error).code);
} finally {
  clearInterval(asking);
  await handle.close();
}
