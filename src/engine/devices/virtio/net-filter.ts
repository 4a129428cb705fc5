/** Which received frames the driver wants (virtio 1.2, 5.1.6.5.1 and 5.1.6.5.2): modes and address table. */

const ADDRESS_BYTES = 6;
const GROUP_BIT = 1;
/** Addresses kept of each table; a longer one lets everything of its kind through. */
const TABLE_MAX = 64;
const COUNT_BYTES = 4;

export class ReceiveFilter {
  promiscuous = true;
  allMulticast = true;
  readonly #own: Uint8Array;
  #unicast: AddressTable | 'all' = new Set();
  #multicast: AddressTable | 'all' = new Set();

  /** @param own the device's address: the filter follows changes of the array's content */
  constructor(own: Uint8Array) {
    this.#own = own;
  }

  reset(): void {
    this.promiscuous = true;
    this.allMulticast = true;
    this.#unicast = new Set();
    this.#multicast = new Set();
  }

  /** Takes the body of VIRTIO_NET_CTRL_MAC_TABLE_SET; false if it is malformed. */
  setTables(body: Uint8Array): boolean {
    const unicast = readTable(body, 0);
    if (unicast === undefined) return false;
    const multicast = readTable(body, unicast.end);
    if (multicast === undefined) return false;
    this.#unicast = unicast.table;
    this.#multicast = multicast.table;
    return true;
  }

  /** Is the frame for this device? */
  accepts(frame: Uint8Array): boolean {
    if (this.promiscuous) return true;
    if ((frame[0] & GROUP_BIT) === 0) {
      return isAddress(frame, this.#own) || inTable(this.#unicast, frame);
    }
    return this.allMulticast || isBroadcast(frame) || inTable(this.#multicast, frame);
  }
}

/** Addresses as 48-bit numbers. */
type AddressTable = ReadonlySet<number>;

function addressAt(bytes: Uint8Array, offset: number): number {
  const high = (bytes[offset] << 8) | bytes[offset + 1];
  const middle = (bytes[offset + 2] << 8) | bytes[offset + 3];
  return high * 0x1_0000_0000 + middle * 0x1_0000 + ((bytes[offset + 4] << 8) | bytes[offset + 5]);
}

function isAddress(frame: Uint8Array, address: Uint8Array): boolean {
  return addressAt(frame, 0) === addressAt(address, 0);
}

function isBroadcast(frame: Uint8Array): boolean {
  return addressAt(frame, 0) === 0xffff_ffff_ffff;
}

function inTable(table: AddressTable | 'all', frame: Uint8Array): boolean {
  return table === 'all' || table.has(addressAt(frame, 0));
}

function readTable(
  body: Uint8Array,
  at: number,
): { readonly table: AddressTable | 'all'; readonly end: number } | undefined {
  if (at + COUNT_BYTES > body.length) return undefined;
  const entries = new DataView(body.buffer, body.byteOffset).getUint32(at, true);
  const end = at + COUNT_BYTES + entries * ADDRESS_BYTES;
  if (end > body.length) return undefined;
  if (entries > TABLE_MAX) return { table: 'all', end };
  const table = new Set<number>();
  for (let i = at + COUNT_BYTES; i < end; i += ADDRESS_BYTES) table.add(addressAt(body, i));
  return { table, end };
}
