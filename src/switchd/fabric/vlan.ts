/** VLANs by IEEE 802.1Q: access ports send and get untagged frames of one VLAN, trunk ports tagged ones of several. */

import { checksumOf, checksumWord, segmentationOf } from '../offload/offload.ts';
import type { FrameBuffer } from '../ring/frame-buffer.ts';
import type { FrameSource } from '../ring/producer.ts';

export const ETHERTYPE_VLAN = 0x8100;
/** Provider bridges' outer tag (IEEE 802.1ad): no port speaks it, so none takes it. */
export const ETHERTYPE_PROVIDER_VLAN = 0x88a8;
export const VLAN_DEFAULT = 1;
export const VLAN_MAX = 4094;

const TAG_BYTES = 4;
/** Both MAC addresses come before the tag. */
const TAG_AT = 12;
const ID_MASK = 0xfff;

/** How a port gets the frames of a VLAN. */
export type VlanForm = 'none' | 'untagged' | 'tagged';

export interface VlanMembership {
  /** VLAN of untagged frames; 0 for none. */
  readonly native: number;
  /** Whether a tag with this VLAN is taken. */
  takesTag(id: number): boolean;
  formOf(id: number): VlanForm;
}

/** Untagged frames of one VLAN. A tag that names no VLAN but a priority (id 0) is taken for none. */
export function accessPort(id: number): VlanMembership {
  return { native: id, takesTag: () => false, formOf: (vlan) => (vlan === id ? 'untagged' : 'none') };
}

/** Tagged frames of `allowed`, and untagged ones of the native VLAN (0 for none). */
export function trunkPort(allowed: Iterable<number>, native: number): VlanMembership {
  const members = new Uint8Array(ID_MASK + 1);
  for (const id of allowed) members[id] = 1;
  return {
    native,
    takesTag: (id) => members[id] === 1 && id !== native,
    formOf: (id) => (id === native ? 'untagged' : members[id] === 1 ? 'tagged' : 'none'),
  };
}

export const ACCESS_DEFAULT = accessPort(VLAN_DEFAULT);

/** The id in the tag of a tagged frame; 0 when it ends before that. */
export function tagOf(frame: FrameSource): number {
  if (frame.length < TAG_AT + TAG_BYTES + 2) return 0;
  const at = frame.offset + TAG_AT + 2;
  return ((frame.bytes[at]! << 8) | frame.bytes[at + 1]!) & ID_MASK;
}

/** A copy with a tag. Undefined when that would be too long. */
export function withTag(frame: FrameSource, id: number, into: FrameBuffer): FrameBuffer | undefined {
  if (frame.length + TAG_BYTES > into.capacity) return undefined;
  const tag = [ETHERTYPE_VLAN >> 8, ETHERTYPE_VLAN & 255, id >> 8, id & 255];
  const { bytes, offset } = into;
  bytes.set(frame.bytes.subarray(frame.offset, frame.offset + TAG_AT), offset);
  bytes.set(tag, offset + TAG_AT);
  const rest = frame.bytes.subarray(frame.offset + TAG_AT, frame.offset + frame.length);
  bytes.set(rest, offset + TAG_AT + TAG_BYTES);
  into.length = frame.length + TAG_BYTES;
  moveChecksum(frame, into, TAG_BYTES);
  return into;
}

/** A copy without its tag. */
export function withoutTag(frame: FrameSource, into: FrameBuffer): FrameBuffer {
  const { bytes, offset } = into;
  bytes.set(frame.bytes.subarray(frame.offset, frame.offset + TAG_AT), offset);
  const rest = frame.bytes.subarray(frame.offset + TAG_AT + TAG_BYTES, frame.offset + frame.length);
  bytes.set(rest, offset + TAG_AT);
  into.length = frame.length - TAG_BYTES;
  moveChecksum(frame, into, -TAG_BYTES);
  return into;
}

/** What is left to the receiver stays so, and is at another place. */
function moveChecksum(frame: FrameSource, into: FrameBuffer, by: number): void {
  const checksum = checksumOf(frame);
  const start = checksum & 0xffff;
  const moved = checksum === 0 ? 0 : checksumWord(Math.max(0, start + by), checksum >>> 16);
  into.setOffload(moved, segmentationOf(frame));
}
