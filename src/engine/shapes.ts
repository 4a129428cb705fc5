/**
 * V8 forgets the hidden class of objects at a collection in which none of them is alive, and with it all optimized code
 * that relies on it. Objects that live for one request only, or for one instruction, are rarely alive then: without
 * this the compiler and the decoder ran unoptimized most of the time.
 */
const kept: object[] = [];

/** Returns a function that keeps the last object it was given. One for each class, to be called with each new object. */
export function shapeKeeper<T extends object>(): (object: T) => void {
  const slot = kept.length;
  kept.push({});
  return (object) => {
    kept[slot] = object;
  };
}
