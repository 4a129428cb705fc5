/** What core functions read and write of the state that compiled regions keep in locals. */

export interface CoreEffects {
  /** May read or write general and vector registers in memory. */
  readonly registers: boolean;
  readonly readsFlags: boolean;
  readonly writesFlags: boolean;
}

const effects = (...names: (keyof CoreEffects)[]): CoreEffects => ({
  registers: names.includes('registers'),
  readsFlags: names.includes('readsFlags'),
  writesFlags: names.includes('writesFlags'),
});

const NONE = effects();
const READS_FLAGS = effects('readsFlags');
const WRITES_FLAGS = effects('writesFlags');
const FLAGS = effects('readsFlags', 'writesFlags');
const REGISTERS = effects('registers');
/** Unknown functions are taken to touch everything. */
const ALL = effects('registers', 'readsFlags', 'writesFlags');

const list = (names: string, effects: CoreEffects): [string, CoreEffects][] =>
  names
    .trim()
    .split(/\s+/)
    .map((name) => [name, effects]);

const EFFECTS: ReadonlyMap<string, CoreEffects> = new Map([
  ...list(
    `slowRead slowWrite slowStore  commitWrite readBlock writeBlock crc32c
     mpsadbw phminposuw blendps blendpd pblendw insertps maskedStore
     sseF64 sseF32 ssePackedF64 ssePackedF32 sseCompareF64 sseCompareF32 sseComparePackedF64 sseComparePackedF32
     sseHorizontalF64 sseHorizontalF32 sseAddSubF64 sseAddSubF32 sseDotF32 sseDotF64 sseRoundPackedF64
     sseRoundPackedF32 ssePackedReciprocal ssePackedConvert sseRoundF64 sseRoundF32 sseIntToF64 sseIntToF32
     sseF64ToInt sseF32ToInt sseF64ToF32 sseF32ToF64 sseReciprocalF32 sseReciprocalSqrtF32
     x87MemoryRead x87MemoryWrite x87Wait x87LoadEnvironment x87StoreEnvironment
     portIn movFromCr movFromDr sldt str smsw readSegmentBase
     cli sti stac clac swapgs writeSegmentBase`,
    NONE,
  ),
  ...list('getFlags pushf', READS_FLAGS),
  ...list('movs stos lods rdtsc rdmsr cpuid tracePoint', REGISTERS),
  ...list('setArithmeticFlags', WRITES_FLAGS),
  // These leave some flags, or in some cases all, as they were.
  ...list('shiftDouble comiF64 comiF32 lar lsl rotateCarryLeft rotateCarryRight', FLAGS),
]);

export function coreEffects(name: string): CoreEffects {
  return EFFECTS.get(name) ?? ALL;
}
