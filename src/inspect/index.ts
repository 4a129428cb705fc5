/** Guests' kernels, read from outside. */
export { Inspector } from './inspector.ts';
