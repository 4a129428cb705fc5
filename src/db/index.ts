/** The daemon's SQLite database: migrations and one class per table. */
export { openDatabase, type Sqlite } from './database.ts';
export type * from './rows.ts';
export { Store } from './store.ts';
export type { VmFilter } from './vms.ts';
