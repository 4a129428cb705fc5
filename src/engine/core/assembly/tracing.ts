// Trace points: instructions whose execution JavaScript is told of.
import * as env from './env';

/** 1 when the CPU is to go on at another RIP. */
export function tracePoint(number: i32): i32 {
  return env.tracePoint(number);
}
