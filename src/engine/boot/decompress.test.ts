import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { decompress } from './decompress.ts';

/** Made by `xz --check=crc32 --x86 --lzma2=dict=1MiB` and `lz4 -l` from the same code with calls in it. */
const XZ =
  '/Td6WFoAAAFpIt42AgEEACEBEACLIW9J4ARzAYtdACqSDaTkvlPvrtVGELDP4yGV0xILTuobqHnDUM5gK9YtnSaY7kqcVIfgPRrb' +
  'pyIBc7nRDnulfro58bRKCXLKEvcD9W/X6M9jYwXRJI3P9skBD4449MDy3Bvly+Lr+xiX0y3tEuV++msO4I9uZkV9Heb8W4DBqiOr' +
  'ZH84Obq6EpMjsA8/q1JC83sQtBjqrsFa+bZYfqS2EWVOlt7oEsCi0ls3DjUMaEXoOXkNG+HZ5eFdJ5Zcs+mpP2l3rz5U4dLbNRpf' +
  'YyXW0unUVDqUmFb+XcwtIA8ps9hqEOPyg8c0G9XF1EF6a0zobDo/Ajlh1GvmCH9xtSyUhTaP0/19pEnb4WmN1QoonxVHIyP8MSzp' +
  'tMn2dTp/GPE3buRwnV2/58DoEgdWKrLiPPcKBrW52pF7qkbZB2m7GxzHO+0h7Se+VjU1RDR0jbi1BhKhQOLHEewScd4eKvGU42cs' +
  'sQlotaCQ7O6YaUWPTveWozTWcgepXwErBJKhFbubZJw/kXHixGiFewTmN9D+IIW8oJZ6AAC2bF/uAAGjA/QIAAAFHWocPjANiwIA' +
  'AAAAAVla';
const LZ4 =
  'AiFMGAoDAACwVUiJ5egAAAAAD4QGAEEAAJDDEwAg/Q8TAGMFAAAAAQETACD6HxMAYwoAAAACBBMAIPcvEwBjDwAAAAMJEwAg9D8T' +
  'AGMUAAAABBATACDxTxMAYxkAAAAFGRMAIO5fEwBjHgAAAAYkEwDD6////w+EIwAAAAcxEwAR6IUAYygAAAAIQBMAEeWFAGMtAAAA' +
  'CVETABHihQBjMgAAAApkEwAR34UAYzcAAAALeRMAEdyFAGM8AAAADJATABHZhQBjQQAAAA2pEwAR1oUAY0YAAAAOxBMAEdOFABBL' +
  'IwET4RMAEdCFAFRQAAAAEDABEc2FAGNVAAAAESEmABHKhQBjWgAAABJEEwARx4UAY18AAAATaRMAEcSFAFRkAAAAFJgAEcGFAGNp' +
  'AAAAFbkmABG+hQBjbgAAABbkEwARu4UAY3MAAAAXERMAEbiFAFR4AAAAGDABEbWFAGN9AAAAGXEmABGyhQBjggAAABqkEwARr4UA' +
  'Y4cAAAAb2RMAEayFAFSMAAAAHMgBEamFAGORAAAAHUkmABGmhQBjlgAAAB6EEwARo4UAY5sAAAAfwRMAEaCFAFSgAAAAIDABEZ2F' +
  'AGOlAAAAIUEmABGahQBUqgAAACJMABGXhQBjrwAAACPJJgARlIUAVLQAAAAkmAARkYUAY7kAAAAlWSYAEY6FAFS+AAAAJuQAEYuF' +
  'AGPDAAAAJ/EmABGIhQBUyAAAACgwARGFhQBjzQAAACmRJgARgoUAVNIAAAAqfAERf4UAY9cAAAArOSYAEXyFAFTcAAAALMgBEXmF' +
  'AGPhAAAALekmABF2hQBj5gAAAC5EEwARc4UAY+sAAAAvoRMAEXCFAFTwAAAAMDABEW2FAGP1AAAAMWEmABFqhQBU+gAAADKsAhFn' +
  'hQBj/wAAADMpJgARZIUAVAQBAAA0mAARYYUAYwkBAAA1+SYAEV6FAFQOAQAANkQDEVuFAGMTAQAAN9EmABFYhQBUGAEAADgwARFV' +
  'hQBjHQEAADmxJgARUoUAVCIBAAA63AMRT4UAgCcBAAA7mZDD';
const UNPACKED_BYTES = 1140;
const UNPACKED_SHA256 = '32593f8e42d0646e51c35f1aa6935863012a5a73381df9977958277604e1599e';

const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));

test.each([
  ['xz with the x86 filter', XZ],
  ['lz4', LZ4],
])('%s', (_name, packed) => {
  const unpacked = decompress(bytesOf(packed), 1 << 20)!;
  expect(unpacked).toHaveLength(UNPACKED_BYTES);
  expect(createHash('sha256').update(unpacked).digest('hex')).toBe(UNPACKED_SHA256);
});

test.each([
  ['xz', XZ],
  ['lz4', LZ4],
])('%s that unpacks to more than it may, or is cut, is refused', (_name, packed) => {
  const bytes = bytesOf(packed);
  expect(() => decompress(bytes, 100)).toThrow(/damaged/);
  for (const length of [20, 40, bytes.length >> 1]) {
    expect(() => decompress(bytes.subarray(0, length), 1 << 20)).toThrow(/damaged/);
  }
});

test('damaged data never hangs or reads beyond its end', () => {
  for (const packed of [XZ, LZ4]) {
    const bytes = bytesOf(packed);
    for (let at = 12; at < bytes.length; at += 7) {
      const damaged = bytes.slice();
      damaged[at]! ^= 0x55;
      try {
        expect(decompress(damaged, 1 << 20)!.length).toBeLessThanOrEqual(1 << 20);
      } catch (error) {
        expect(String(error)).toMatch(/damaged/);
      }
    }
  }
});

test('an unknown format is left to the kernel itself', () => {
  expect(decompress(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), 1000)).toBeUndefined();
});
