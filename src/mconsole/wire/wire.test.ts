import { describe, expect, it } from 'vitest';
import { encodeNotification, NOTIFY, notifyText } from './notify.ts';
import { BARE_REFUSAL, encodeReply } from './reply.ts';
import { decodeRequest } from './request.ts';

const bytes = (hex: string, text = ''): Buffer =>
  Buffer.concat([Buffer.from(hex.replaceAll(' ', ''), 'hex'), Buffer.from(text, 'latin1')]);

describe('a request', () => {
  it('of uml_mconsole has 524 bytes, and a short one its text', () => {
    const short = bytes('bebafeca 02000000 07000000', 'version');
    const command = { kind: 'command', text: 'version', wrongVersion: false };
    expect(decodeRequest(short)).toEqual(command);
    expect(decodeRequest(Buffer.concat([short, Buffer.alloc(505)]))).toEqual(command);
    expect(decodeRequest(Buffer.concat([short, Buffer.from('x'.repeat(2000))]))).toEqual(command);
  });

  it('may be 511 bytes long and no longer', () => {
    const text = 'x'.repeat(511);
    expect(decodeRequest(bytes('bebafeca 02000000 ff010000', text))).toMatchObject({ text });
    expect(decodeRequest(bytes('bebafeca 02000000 00020000', text))).toEqual({ kind: 'too-large' });
    expect(decodeRequest(bytes('bebafeca 02000000 ffffffff', text))).toEqual({ kind: 'too-large' });
  });

  it('of another version is told, and its text is still read', () => {
    const request = bytes('bebafeca 01000000 02000000', 'go');
    expect(decodeRequest(request)).toEqual({ kind: 'command', text: 'go', wrongVersion: true });
    expect(decodeRequest(bytes('bebafeca'))).toEqual({ kind: 'command', text: '', wrongVersion: true });
  });

  it('without the magic is of version 0', () => {
    for (const hex of ['', '6865', '68656c70', '00000000 00000000 00000000', 'cafebabe 02000000 00000000']) {
      expect(decodeRequest(bytes(hex))).toEqual({ kind: 'bare' });
    }
    expect(BARE_REFUSAL).toHaveLength(63);
  });

  it('ends at its first NUL', () => {
    expect(decodeRequest(bytes('bebafeca 02000000 06000000', 'go\0abc'))).toMatchObject({ text: 'go' });
  });
});

describe('a reply', () => {
  it('has the bytes of UML', () => {
    expect(encodeReply(1, 'Unknown command')).toEqual([
      bytes('01000000 00000000 10000000', 'Unknown command\0'),
    ]);
    expect(encodeReply(-22, 'Device number out of range')).toEqual([
      bytes('eaffffff 00000000 1b000000', 'Device number out of range\0'),
    ]);
    expect(encodeReply(0, '')).toEqual([bytes('00000000 00000000 01000000 00')]);
  });

  it('is cut into pieces of 511 bytes, of which the first has the error and the last no more', () => {
    expect(encodeReply(1, 'a'.repeat(511)).map((piece) => piece.length)).toEqual([524]);
    const pieces = encodeReply(1, `${'a'.repeat(511)}${'b'.repeat(511)}c`);
    expect(pieces).toEqual([
      bytes('01000000 01000000 00020000', `${'a'.repeat(511)}\0`),
      bytes('00000000 01000000 00020000', `${'b'.repeat(511)}\0`),
      bytes('00000000 00000000 02000000', 'c\0'),
    ]);
  });

  it('ends at its first NUL', () => {
    expect(encodeReply(0, 'ab\0cd')).toEqual([bytes('00000000 00000000 03000000', 'ab\0')]);
  });
});

describe('a notification', () => {
  it('has the bytes of UML', () => {
    expect(encodeNotification(NOTIFY.SOCKET, notifyText('/tmp/umlref/boot/d.t2/t2/mconsole'))).toEqual(
      bytes('bebafeca 02000000 00000000 22000000', '/tmp/umlref/boot/d.t2/t2/mconsole\0'),
    );
    expect(encodeNotification(NOTIFY.USER, Buffer.from('hello-user\n'))).toEqual(
      bytes('bebafeca 02000000 03000000 0b000000', 'hello-user\n'),
    );
  });

  it('has 512 bytes of data at most, with the NUL of a text among them', () => {
    expect(encodeNotification(NOTIFY.USER, Buffer.alloc(513))).toHaveLength(16 + 512);
    const text = encodeNotification(NOTIFY.PANIC, notifyText('x'.repeat(600)));
    expect(text).toHaveLength(16 + 512);
    expect(text.at(-1)).toBe(0);
    expect(text.at(-2)).toBe(120);
  });
});
