/** Guests' kernels, read from outside. */
export { Inspector } from './inspector.ts';
export { type TracedMachine, Tracer } from './tracer.ts';
