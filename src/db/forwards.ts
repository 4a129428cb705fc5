import type { Sqlite } from './database.ts';
import type { ForwardRow } from './rows.ts';

export class ForwardTable {
  readonly #insert;
  readonly #at;
  readonly #ofNetwork;
  readonly #remove;
  readonly #removeTo;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[ForwardRow]>(
      `INSERT INTO forwards (id, network_id, protocol, host_address, host_port, address, port)
       VALUES (@id, @network_id, @protocol, @host_address, @host_port, @address, @port)`,
    );
    this.#at = db.prepare<[string, string, number], ForwardRow>(
      'SELECT * FROM forwards WHERE protocol = ? AND host_address = ? AND host_port = ?',
    );
    this.#ofNetwork = db.prepare<[string], ForwardRow>(
      'SELECT * FROM forwards WHERE network_id = ? ORDER BY seq',
    );
    this.#removeTo = db.prepare<[string, string], { readonly id: string }>(
      'DELETE FROM forwards WHERE network_id = ? AND address = ? RETURNING id',
    );
    this.#remove = db.prepare<[string, string]>('DELETE FROM forwards WHERE network_id = ? AND id = ?');
  }

  /** Those that lead to an address. Gives their ids. */
  removeTo(networkId: string, address: string): string[] {
    return this.#removeTo.all(networkId, address).map(({ id }) => id);
  }
  insert(forward: ForwardRow): void {
    this.#insert.run(forward);
  }
  at(protocol: string, hostAddress: string, hostPort: number): ForwardRow | undefined {
    return this.#at.get(protocol, hostAddress, hostPort);
  }
  ofNetwork(networkId: string): ForwardRow[] {
    return this.#ofNetwork.all(networkId);
  }
  /** False when there was none. */
  remove(networkId: string, id: string): boolean {
    return this.#remove.run(networkId, id).changes === 1;
  }
}
