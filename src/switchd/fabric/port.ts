/** A port of a switched network: where its frames go, its rules, and what was counted. Owned by the switch's thread. */
import type { FrameSource } from '../ring/producer.ts';
import { type DropCause, type Drops, zeroDrops } from './drop-cause.ts';
import { ACCESS_DEFAULT, type VlanMembership } from './vlan.ts';

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
  readonly drops: Drops;
}

/** A frame that is being switched. `payloadAt` is the offset in the frame of what follows the EtherType. */
export interface Passage {
  readonly frame: FrameSource;
  readonly etherType: number;
  readonly payloadAt: number;
  readonly nowSeconds: number;
}

/** A rule of a port. Gives why a frame is dropped, or undefined. */
export type FrameRule = (passage: Passage) => DropCause | undefined;

/** What a port lets through, and how much of it. */
export interface PortRules {
  readonly vlan: VlanMembership;
  /** In order, for frames from the port; */
  readonly received: readonly FrameRule[];
  /** and for frames to it. */
  readonly sent: readonly FrameRule[];
  /** Frames that go to more than one port. */
  readonly flooded: FrameRule | undefined;
  /** Most stations that are learned on the port at a time. */
  readonly stationsMax: number;
}

/** No rules: as a port of a plain switch. */
export const OPEN_RULES: PortRules = {
  vlan: ACCESS_DEFAULT,
  received: [],
  sent: [],
  flooded: undefined,
  stationsMax: Number.POSITIVE_INFINITY,
};

export class Port {
  readonly id: string;
  /** Index in the network's ports. */
  readonly slot: number;
  readonly outlet: Outlet;
  readonly counters: PortCounters = {
    receivedFrames: 0,
    receivedBytes: 0,
    sentFrames: 0,
    sentBytes: 0,
    drops: zeroDrops(),
  };
  rules: PortRules;
  /** Has frames that are not published yet. */
  dirty = false;

  constructor(id: string, slot: number, outlet: Outlet, rules: PortRules) {
    this.id = id;
    this.slot = slot;
    this.outlet = outlet;
    this.rules = rules;
  }

  drop(cause: DropCause): void {
    this.counters.drops[cause]++;
  }
}
