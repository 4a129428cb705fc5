/** An integer loop on a bare vCPU, in each tier. */
import { loopSpeed } from '../loop.ts';
import type { Part } from './part.ts';

export const loop: Part = {
  name: 'loop',
  title: 'Integer loop',
  run({ note }) {
    note('integer loop');
    const { interpreter, compiled } = loopSpeed();
    return `Interpreter alone: ${interpreter} million instructions per second; compiled: ${compiled}.`;
  },
};
