/** Messages between a UML switch's control side and the worker thread of its data path. */
import type { PlainError } from '../../contracts/errors.ts';
import type { PortCounters } from '../fabric/port.ts';

export interface DataWorkerOptions {
  readonly hub: boolean;
  /** Report where stations are first seen. */
  readonly reportStations: boolean;
  /** eventfd(2) that is written after each message to the worker. */
  readonly wakeFd: number;
  /** The worker's end of a port of another switch. */
  readonly ring?: SharedArrayBuffer | undefined;
  /** Where it notes its descriptors. */
  readonly descriptors: SharedArrayBuffer | undefined;
}

export type DataRequest =
  /** `name`: all 108 bytes of the client's data socket. Answered with the 108 bytes of ours. */
  | { readonly type: 'join'; readonly portId: string; readonly name: Uint8Array }
  | { readonly type: 'leave'; readonly portId: string }
  | { readonly type: 'tap'; readonly portId: string; readonly device: string }
  | { readonly type: 'ports' }
  | { readonly type: 'stop' };

export interface ToDataWorker {
  readonly id: number;
  readonly request: DataRequest;
}

export interface UmlPortInfo extends PortCounters {
  readonly id: string;
  /** As in the messages of uml_switch. */
  readonly number: number;
}

export interface StationReport {
  readonly mac: string;
  readonly port: number;
  readonly oldPort: number | undefined;
}

export type FromDataWorker =
  | { readonly type: 'reply'; readonly id: number; readonly result: unknown }
  | { readonly type: 'reply-error'; readonly id: number; readonly error: PlainError }
  | { readonly type: 'station'; readonly report: StationReport };
