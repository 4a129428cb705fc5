/** All micro-ops: one line for each family. The order fixes their numbers; `control.ts` comes first. */
import './control.ts';
import './moves.ts';
import './arithmetic.ts';
import './shifts.ts';
import './bits.ts';
import './system.ts';
import './simd.ts';
import './sse-float.ts';
import './x87.ts';

export { uop, uopDefinitions, uopNumber, uopProperty } from './define.ts';
