// The core runtime: one line for each part.
export {
  commitWrite,
  flushTlb,
  flushTlbPage,
  init,
  readBlock,
  readSystemBlock,
  selectTlbBank,
  slowRead,
  slowStore,
  slowWrite,
  translateFetch,
  writeBlock,
  writeSystemBlock,
} from './mmu';
export {
  blockAt,
  killBlock,
  checkPlacement,
  fetchRip,
  findBlock,
  flushBlocks,
  forgetBlock,
  insertBlock,
  invalidateRange,
  jumpCacheSlot,
  noteMiss,
} from './blocks';
export { copyKnown, keepKnown } from './known';
export { flushJumpCache } from './tlb';
export {
  deliverFault,
  icebp,
  interrupt,
  interruptsPossible,
  into,
  nmiPossible,
  raise,
  singleStep,
  softwareInterrupt,
  stackFault,
} from './exceptions';
export {
  lar,
  lgdt,
  lidt,
  lldt,
  loadSegment,
  lsl,
  ltr,
  sgdt,
  sidt,
  sldt,
  str,
  updateMode,
  verr,
  verw,
} from './segments';
export { farCall, farJump } from './far';
export { farReturn, iret } from './return';
export { portIn, portOut } from './port-io';
export { tracePoint } from './tracing';
export { getFlags, popf, pushf, setArithmeticFlags, settleFlags } from './flags';
export { resetCpu } from './reset';
export { cmps, ins, lods, movs, outs, scas, stos } from './strings';
export { cpuid } from './cpuid';
export { rdmsr, readModelRegister, wrmsr } from './msr';
export { clts, lmsw, movFromCr, movFromDr, movToCr, movToDr, smsw } from './control-registers';
export {
  clac,
  cli,
  hlt,
  invlpg,
  invpcid,
  rdpmc,
  rdtsc,
  rdtscp,
  readSegmentBase,
  stac,
  sti,
  swapgs,
  wbinvd,
  writeSegmentBase,
} from './system';
export { syscall, sysenter, sysexit, sysret } from './system-calls';
export { fxrstor, fxsave } from './fxsave';
export { ldmxcsr, updateSseFast } from './sse-state';
export { bound, cmpxchg16b, cmpxchg8b, enter } from './composite';
export { x87Register } from './x87';
export {
  x87LoadEnvironment,
  x87MemoryRead,
  x87MemoryWrite,
  x87SaveEnvironment,
  x87StoreEnvironment,
} from './x87-memory';
export { x87Wait } from './x87-state';
export * from './sse';
export * from './sse-packed';
export * from './integer';
export * from './simd';
export * from './link';
