/** Guests' kernels, read from outside. */
export { type ProcContent, ProcFiles, type ProcRule } from './hppfs/index.ts';
export { Inspector } from './inspector.ts';
export { KernelPoints } from './kernel-points.ts';
export { Tracer } from './trace/tracer.ts';
