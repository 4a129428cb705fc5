// Trace points: instructions whose execution JavaScript is told of.
import * as env from './env';

export function tracePoint(number: i32): void {
  env.tracePoint(number);
}
