/** A port of a switched network: where its frames go, and what was counted. Owned by the switch's thread. */
import type { FrameSource } from '../ring/producer.ts';

/** Takes the frames that the switch sends to a port. */
export interface Outlet {
  /** Copies the frame. False: there was no room and it is dropped. `from` is the slot it came in on. */
  push(frame: FrameSource, from: number): boolean;
  /** Ends a batch. */
  publish(): void;
}

/** Directions are the switch's: received from the port, sent to the port. */
export interface PortCounters {
  receivedFrames: number;
  receivedBytes: number;
  sentFrames: number;
  sentBytes: number;
  /** Received and dropped: shorter than an Ethernet header. */
  droppedRunts: number;
  /** Received and dropped: a group address as source. */
  droppedGroupSource: number;
  /** Received and dropped: the source is the network's own gateway. */
  droppedForged: number;
  /** Received and dropped: the destination is on the same port. */
  droppedLocal: number;
  /** To be sent and dropped: the port does not read fast enough. */
  droppedQueueFull: number;
}

function zeroCounters(): PortCounters {
  return {
    receivedFrames: 0,
    receivedBytes: 0,
    sentFrames: 0,
    sentBytes: 0,
    droppedRunts: 0,
    droppedGroupSource: 0,
    droppedForged: 0,
    droppedLocal: 0,
    droppedQueueFull: 0,
  };
}

export class Port {
  readonly id: string;
  /** Index in the network's ports. */
  readonly slot: number;
  readonly outlet: Outlet;
  readonly counters: PortCounters = zeroCounters();
  /** Has frames that are not published yet. */
  dirty = false;

  constructor(id: string, slot: number, outlet: Outlet) {
    this.id = id;
    this.slot = slot;
    this.outlet = outlet;
  }
}
