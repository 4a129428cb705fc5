/** Background work leaves the processor to guests where both want it. */
import { setPriority } from 'node:os';

/** Nice value: about a tenth of the time of a guest's thread that wants all of it. */
const NICE = 10;

/** For the calling thread, for good: on Linux process 0 is the thread that asks (sched(7), setpriority(2)). */
export function giveWay(): void {
  setPriority(0, NICE);
}
