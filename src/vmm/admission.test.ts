import { describe, expect, it } from 'vitest';
import { MEMORY_BYTES_MAX } from '../engine/machine/machine.ts';
import { Admission, MEMORY_MAX_BYTES, OVERHEAD_BYTES } from './admission.ts';

const MIB = 1024 * 1024;
const host = { availableBytes: () => 2048 * MIB, totalBytes: () => 8192 * MIB };

describe('Admission', () => {
  it('lets in no more than the engine can give', () => {
    expect(MEMORY_MAX_BYTES).toBe(MEMORY_BYTES_MAX);
    const admission = new Admission(host);
    expect(() => admission.checkBounds(MEMORY_MAX_BYTES)).not.toThrow();
    expect(() => admission.checkBounds(MEMORY_MAX_BYTES + 4096)).toThrow(
      expect.objectContaining({ code: 'memory_too_large' }),
    );
  });

  it('counts guests that have not touched their memory yet', () => {
    const admission = new Admission(host);
    expect(admission.limitBytes).toBe(1792 * MIB);
    admission.reserve('a', 1024 * MIB);
    expect(admission.committedBytes).toBe(1024 * MIB + OVERHEAD_BYTES);
    expect(() => admission.reserve('b', 1024 * MIB)).toThrow(
      expect.objectContaining({ code: 'memory_exhausted' }),
    );
    admission.reserve('c', admission.availableBytes);
    expect(admission.availableBytes).toBe(0);
    admission.release('a');
    admission.reserve('b', 1024 * MIB);
  });

  it('looks at what the host has now', () => {
    let free = 2048 * MIB;
    const admission = new Admission({ ...host, availableBytes: () => free });
    free = 300 * MIB;
    expect(() => admission.reserve('a', 64 * MIB)).toThrow(
      expect.objectContaining({ code: 'memory_exhausted' }),
    );
  });
});
