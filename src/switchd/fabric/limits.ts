/** Limits of a port: bandwidth and packets with bursts, and how much it may flood. What is above is dropped. */
import type { FrameRule } from './port.ts';
import { TokenBucket } from './token-bucket.ts';

/** Of one direction; what is missing is not limited. */
export interface RateLimit {
  readonly bitsPerSecond?: number | undefined;
  /** Bytes at once; a tenth of a second's when missing, but at least 64 KiB. */
  readonly burstBytes?: number | undefined;
  readonly packetsPerSecond?: number | undefined;
  /** A tenth of a second's when missing. */
  readonly burstPackets?: number | undefined;
}

/** Frames per second of each kind, and as many at once. */
export interface StormLimits {
  readonly broadcast: number;
  readonly multicast: number;
  readonly unknownUnicast: number;
}

/** More than a station needs to find others, and far less than it could send. */
export const STORM_DEFAULT: StormLimits = { broadcast: 500, multicast: 5000, unknownUnicast: 1000 };

const BURST_SECONDS = 0.1;
const BURST_BYTES_MIN = 65_536;

/** Undefined when nothing is limited. */
export function rateRule(limit: RateLimit): FrameRule | undefined {
  const { bitsPerSecond, packetsPerSecond } = limit;
  if (bitsPerSecond === undefined && packetsPerSecond === undefined) return undefined;
  const perSecond = (bitsPerSecond ?? 0) / 8;
  const burstBytes = limit.burstBytes ?? Math.max(BURST_BYTES_MIN, perSecond * BURST_SECONDS);
  const bytes = bitsPerSecond === undefined ? undefined : new TokenBucket(perSecond, burstBytes);
  const frames =
    packetsPerSecond === undefined
      ? undefined
      : new TokenBucket(
          packetsPerSecond,
          limit.burstPackets ?? Math.max(1, packetsPerSecond * BURST_SECONDS),
        );
  return ({ frame, nowSeconds }) => {
    if (bytes?.has(nowSeconds) === false || frames?.has(nowSeconds) === false) return 'rate';
    bytes?.take(frame.length);
    frames?.take(1);
    return undefined;
  };
}

/** For frames that are flooded. */
export function stormRule(limits: StormLimits): FrameRule {
  const broadcast = new TokenBucket(limits.broadcast, limits.broadcast);
  const multicast = new TokenBucket(limits.multicast, limits.multicast);
  const unknown = new TokenBucket(limits.unknownUnicast, limits.unknownUnicast);
  return ({ frame, nowSeconds }) => {
    const first = frame.words[frame.offset >> 2]!;
    const group = first === -1 ? broadcast : multicast;
    const bucket = (first & 1) === 0 ? unknown : group;
    if (!bucket.has(nowSeconds)) return 'storm';
    bucket.take(1);
    return undefined;
  };
}
