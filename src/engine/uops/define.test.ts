import { expect, it } from 'vitest';
import { uop, uopNumber } from './index.ts';

it('finds micro-ops by templates of their names', () => {
  const load = (width: number): number => uop`mov${width}.rm`;
  const alu = (name: string, width: number, form: string): number => uop`${name}${width}.${form}`;
  for (let time = 0; time < 2; time++) {
    expect([8, 64, 16].map(load)).toEqual(['mov8.rm', 'mov64.rm', 'mov16.rm'].map(uopNumber));
    expect(alu('add', 32, 'rr')).toBe(uopNumber('add32.rr'));
    expect(alu('add', 32, 'ri')).toBe(uopNumber('add32.ri'));
    expect(alu('xor', 32, 'ri')).toBe(uopNumber('xor32.ri'));
    expect(uop`nop`).toBe(uopNumber('nop'));
    expect(() => load(7)).toThrow('no micro-op mov7.rm');
  }
});
