/** Runs in an xterm: joins its terminal to a console by the socket that is named, and tells the size of the window. */
import { connect } from 'node:net';
import { TELNET_GREETING, windowSizeMessage } from './telnet.ts';

const socket = connect(process.argv[2] ?? '');
const { stdin, stdout } = process;

const tellSize = (): void => void socket.write(windowSizeMessage(stdout.columns, stdout.rows));

socket.once('connect', () => {
  stdin.setRawMode(true);
  stdin.on('data', (bytes: Buffer) => socket.write(escaped(bytes)));
  stdout.on('resize', tellSize);
  tellSize();
});
let greeting = TELNET_GREETING.length;
socket.on('data', (bytes: Buffer) => {
  const data = bytes.subarray(Math.min(greeting, bytes.length));
  greeting -= bytes.length - data.length;
  if (data.length > 0) stdout.write(unescaped(data));
});
socket.on('error', () => process.exit(1));
socket.on('close', () => process.exit(0));

const IAC = 255;

/** The return key stays alone, which the other end takes as it is. */
function escaped(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from([...bytes].flatMap((byte) => (byte === IAC ? [IAC, IAC] : [byte])));
}

let isEscaped = false;
function unescaped(bytes: Uint8Array): Uint8Array {
  const plain: number[] = [];
  for (const byte of bytes) {
    isEscaped = byte === IAC && !isEscaped;
    if (!isEscaped) plain.push(byte);
  }
  return Uint8Array.from(plain);
}
