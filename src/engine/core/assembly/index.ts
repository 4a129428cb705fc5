// The core runtime: one line for each part.
export * from './mmu';
export * from './softfloat';
export * from './x87';
