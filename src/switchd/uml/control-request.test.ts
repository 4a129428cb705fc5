import { expect, test } from 'vitest';
import { encodeRequest, parseRequest, printableName } from './control-request.ts';

const name = Buffer.alloc(108, 0x41);
name.set([0, 0, 0, 0, 9, 0, 7], 0);
const v3 = (): Buffer => Buffer.from(encodeRequest(name));

test('reads what linux.uml and vde_plug send, all bytes of the name', () => {
  const joined = { kind: 'join', version: 3, name: Uint8Array.from(name) };
  expect(v3().length).toBe(124);
  expect(v3().subarray(0, 14).toString('hex')).toBe('cefaedfe03000000000000000100');
  expect(parseRequest(v3())).toEqual(joined);
  expect(parseRequest(v3().subarray(0, 122))).toEqual(joined);
  expect(parseRequest(Buffer.concat([v3().subarray(0, 122), Buffer.from('vdeplug: user=root')]))).toEqual(
    joined,
  );
});

test('reads versions 0 and 1', () => {
  const v1 = Buffer.concat([v3().subarray(0, 4), Buffer.alloc(10), v3().subarray(12, 122)]);
  expect(parseRequest(v1)).toEqual({ kind: 'join', version: 1, name: Uint8Array.from(name) });
  const v0 = Buffer.concat([Buffer.alloc(10), v3().subarray(12, 122)]);
  expect(parseRequest(v0)).toEqual({ kind: 'join', version: 0, name: Uint8Array.from(name) });
});

test('refuses version 2, other types and families, and what is too short or too long', () => {
  const changed = (at: number, value: number): Buffer => {
    const bytes = v3();
    bytes[at] = value;
    return bytes;
  };
  const wrong = [
    changed(4, 2),
    changed(8, 1),
    changed(12, 2),
    v3().subarray(0, 121),
    Buffer.alloc(257),
    Buffer.alloc(0),
  ];
  for (const request of wrong) expect(parseRequest(request).kind).toBe('refused');
  expect(parseRequest(changed(4, 9))).toEqual({ kind: 'unknown-version', version: 9 });
});

test('a path ends at its NUL, an abstract name does not', () => {
  expect(printableName(Buffer.from('/tmp/x\0garbage'))).toBe('/tmp/x');
  expect(printableName(Buffer.from([0, 0, 1, 0, 0]))).toBe('@0001');
});
