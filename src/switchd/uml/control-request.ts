/**
 * What a client writes to a switch's control socket, and the answer: uml_switch's protocol, of which vde_switch's is
 * an extension. Numbers are in host byte order, which is little-endian wherever Umlaut runs.
 */
const MAGIC = 0xfeed_face;
const NAME_BYTES = 108;
const AF_UNIX = 1;
const NEW_CONTROL = 0;
/** Longest request: vde_plug's description follows the address. */
export const REQUEST_BYTES_MAX = 256;

/** Where the sockaddr_un is, by version. Version 0 has no magic. */
const ADDRESS_AT = { 0: 10, 1: 14, 3: 12 } as const;

export type RequestVersion = keyof typeof ADDRESS_AT;

export type ControlRequest =
  /** `name`: all 108 bytes of the client's data socket. */
  | { readonly kind: 'join'; readonly version: RequestVersion; readonly name: Uint8Array }
  /** A version that is not known: uml_switch neither answers nor closes. */
  | { readonly kind: 'unknown-version'; readonly version: number }
  | { readonly kind: 'refused'; readonly why: string };

const refused = (why: string): ControlRequest => ({ kind: 'refused', why });

/** Reads a request, which has to come in one piece. */
export function parseRequest(request: Uint8Array): ControlRequest {
  if (request.length > REQUEST_BYTES_MAX) return refused(`a request of ${request.length} bytes`);
  const bytes = Buffer.from(request.buffer, request.byteOffset, request.length);
  if (bytes.length < 8 || bytes.readUInt32LE(0) !== MAGIC) return parseJoin(bytes, 0, 0);
  const version = bytes.readUInt32LE(4);
  if (version === 2) return refused('version 2');
  if (version > 3) return { kind: 'unknown-version', version };
  return version === 3 ? parseJoin(bytes, 3, 8) : parseJoin(bytes, 1, 4);
}

function parseJoin(bytes: Buffer, version: RequestVersion, typeAt: number): ControlRequest {
  const at = ADDRESS_AT[version];
  if (bytes.length < at + 2 + NAME_BYTES) return refused(`a request of ${bytes.length} bytes`);
  if (bytes.readUInt32LE(typeAt) !== NEW_CONTROL) return refused('an unknown type of request');
  if (bytes.readUInt16LE(at) !== AF_UNIX) return refused('an address that is no Unix socket');
  return { kind: 'join', version, name: Uint8Array.from(bytes.subarray(at + 2, at + 2 + NAME_BYTES)) };
}

/** A request of version 3, as linux.uml sends it. `name`: 108 bytes. */
export function encodeRequest(name: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(124);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(3, 4);
  bytes.writeUInt32LE(NEW_CONTROL, 8);
  bytes.writeUInt16LE(AF_UNIX, 12);
  bytes.set(name, 14);
  return bytes;
}

/** The name as it is used: a path ends at its first NUL, an abstract name never does. */
export function printableName(name: Uint8Array): string {
  if (name[0] === 0)
    return `@${Buffer.from(name.subarray(1))
      .toString('hex')
      .replace(/(00)+$/, '')}`;
  const end = name.indexOf(0);
  return Buffer.from(end < 0 ? name : name.subarray(0, end)).toString('utf8');
}
