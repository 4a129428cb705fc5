/**
 * The metadata service at 169.254.169.254 (HTTP): each station gets the documents of its own port. The paths are those of EC2,
 * OpenStack and NoCloud; versions of EC2's and OpenStack's are all the same.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type Duplex, duplexPair } from 'node:stream';
import { FrameWriter } from '../nat/frame-writer.ts';
import { Packet, PROTOCOL } from '../nat/packet.ts';
import { Tcp } from '../nat/tcp.ts';
import type { HostEnd } from '../nat/tcp-connection.ts';
import { checksumOf, segmentationOf } from '../offload/offload.ts';
import { FrameBuffer } from '../ring/frame-buffer.ts';
import type { FrameSource } from '../ring/producer.ts';
import type { FrameService } from './gateway.ts';

const HTTP_PORT = 80;
const IDLE_MS = 10_000;
/** EC2's second version wants one for each request; the network knows already who asks. */
const TOKEN = 'umlaut';
/** `1.0/` and `2009-04-04/` of EC2, `openstack/2018-08-27/`. */
const VERSION = /^(openstack\/)?(?:1\.0|\d{4}-\d{2}-\d{2})(\/|$)/;

export type Documents = Readonly<Record<string, string>>;

export interface MetadataOptions {
  readonly mac: Uint8Array;
  /** Of what is plugged in at a slot; undefined for nobody. */
  readonly documentsAt: (slot: number) => Documents | undefined;
  /** Sends a frame to the network; it is copied. */
  readonly emit: (frame: FrameBuffer) => void;
  /** Before and after frames that belong to no batch of the switch's. */
  readonly begin: () => void;
  readonly publish: () => void;
}

export class MetadataService implements FrameService {
  readonly #options: MetadataOptions;
  readonly #packet = new Packet();
  readonly #tcp: Tcp;
  readonly #documents = new WeakMap<Duplex, Documents>();
  /** Frames that were made while another was being forwarded: copies. */
  readonly #made: { readonly bytes: Uint8Array; readonly checksum: number; readonly segmentation: number }[] =
    [];
  readonly #frame = new FrameBuffer();
  readonly #server: Server;
  #isScheduled = false;

  constructor(options: MetadataOptions) {
    this.#options = options;
    const writer = new FrameWriter(options.mac, (frame) => this.#keep(frame));
    this.#tcp = new Tcp({ writer, schedule: () => this.#schedule() });
    this.#server = createServer((request, response) => this.#answer(request, response));
    this.#server.keepAliveTimeout = IDLE_MS;
    this.#server.maxHeadersCount = 100;
  }

  /** A frame to the service's address. What it leads to is sent later. */
  receive(frame: FrameSource, slot: number): void {
    const packet = this.#packet;
    if (!packet.read(frame) || packet.isFragment || packet.protocol !== PROTOCOL.TCP) return;
    if (!packet.hasRightChecksum()) return;
    this.#tcp.receive(packet, slot, () => {
      const documents = packet.destinationPort === HTTP_PORT ? this.#options.documentsAt(slot) : undefined;
      return documents && { end: this.#accept(documents) };
    });
  }

  flush(): void {
    this.#tcp.flush();
    for (const { bytes, checksum, segmentation } of this.#made.splice(0)) {
      this.#frame.set(bytes);
      this.#frame.setOffload(checksum, segmentation);
      this.#options.emit(this.#frame);
    }
  }

  /** What was plugged in there is gone. */
  forget(slot: number): void {
    this.#tcp.forget(slot);
  }

  close(): void {
    this.#tcp.close();
  }

  #keep(frame: FrameBuffer): void {
    const { bytes, offset, length } = frame;
    const copy = bytes.slice(offset, offset + length);
    this.#made.push({ bytes: copy, checksum: checksumOf(frame), segmentation: segmentationOf(frame) });
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#options.begin();
      this.flush();
      this.#options.publish();
    });
  }

  /** The guest's end of a connection to the HTTP server, which listens nowhere. */
  #accept(documents: Documents): HostEnd {
    const [ours, server] = duplexPair();
    this.#documents.set(server, documents);
    this.#server.emit('connection', server);
    server.on('error', () => server.destroy());
    return Object.assign(ours, {
      connecting: false,
      setNoDelay: () => undefined,
      setKeepAlive: () => undefined,
      resetAndDestroy: () => {
        ours.destroy();
        server.destroy();
      },
    });
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const documents = this.#documents.get(request.socket) ?? {};
    const { status, body } = answer(request.method ?? '', request.url ?? '/', documents);
    response.writeHead(status, { 'content-type': 'text/plain', 'content-length': Buffer.byteLength(body) });
    response.end(request.method === 'HEAD' ? undefined : body);
    request.resume();
  }
}

export function answer(
  method: string,
  url: string,
  documents: Documents,
): { readonly status: number; readonly body: string } {
  const path = normalize(url);
  if (method === 'PUT' && path === 'latest/api/token') return { status: 200, body: TOKEN };
  if (method !== 'GET' && method !== 'HEAD') return { status: 405, body: '' };
  const folder = path === '' || path.endsWith('/') ? path : `${path}/`;
  const document = documents[path.replace(/\/$/, '')];
  if (document !== undefined) return { status: 200, body: document };
  const listed = documents[folder];
  if (listed !== undefined && path !== '') return { status: 200, body: listed };
  const names = list(folder, documents);
  return names.length === 0 ? { status: 404, body: '' } : { status: 200, body: names.join('\n') };
}

/** Without the slash at the start, and with `latest` for each version. */
function normalize(url: string): string {
  const path = url
    .replace(/[?#].*$/, '')
    .replace(/^\/+/, '')
    .replaceAll(/\/+/g, '/');
  return path.replace(VERSION, '$1latest$2');
}

/** Names below a folder, those of folders with a slash. */
function list(folder: string, documents: Documents): string[] {
  const names = new Set<string>();
  for (const path of Object.keys(documents)) {
    if (!path.startsWith(folder) || path === folder) continue;
    const [first = '', ...rest] = path.slice(folder.length).split('/');
    names.add(rest.length > 0 ? `${first}/` : first);
  }
  return [...names];
}
