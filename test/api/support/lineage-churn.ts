/**
 * A daemon that is there to be killed: its VM's guest writes all the time, while snapshots are taken, rolled back and deleted,
 * clones come and go, a disk changes its foundations, and backups are made and deleted. Started as `node lineage-churn.ts HOME SEED [settle]`. First it
 * judges by its journal what the last one left; `settle` waits for all work to end, and judges again instead of going on. It says `churning`
 * or `settled` on standard output, or ends with a status that is not 0 and says why.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { pino } from 'pino';
import { BackupCreate, BackupRestore, DiskCreate, VmCreate } from '../../../src/contracts/api/index.ts';
import { toAppError } from '../../../src/contracts/errors.ts';
import { openDatabase, Store } from '../../../src/db/index.ts';
import { startDaemon } from '../../../src/main.ts';
import { openDisk } from '../../../src/storage/index.ts';
import { SYSTEM } from '../../../src/vmm/index.ts';
import { layerConfig } from '../../../src/vmm/services/layer-files.ts';
import { randomNumbers } from '../../support/storage.ts';
import { FakeLibrary, FakeSwitch, MachineFarm } from './fakes.ts';
import { BLOCKS, type Entry, judge, LineageModel } from './lineage-model.ts';

const BLOCK_BYTES = 4096;
const DATA_BYTES = 256 * 1024;
/** As slow as merges can be told to be: they are to be cut off. */
const RATE = 64 * 1024;

const [home, seed, settle] = process.argv.slice(2) as [string, string, string?];
const random = randomNumbers(Number(seed) + 1);
const journalFile = path.join(home, '..', 'journal');
const model = new LineageModel();
let entries = 0;

function remember(entry: Entry): void {
  model.add(entry);
  entries++;
}
function journal(entry: Entry): void {
  remember(entry);
  fs.appendFileSync(journalFile, `${JSON.stringify(entry)}\n`);
}

const first = !fs.existsSync(journalFile);
if (!first)
  for (const line of fs.readFileSync(journalFile, 'utf8').trim().split('\n')) remember(JSON.parse(line));

const farm = new MachineFarm();
const library = new FakeLibrary(path.join(home, 'images'));
if (first) {
  library.seed('default');
  library.seed('other');
}
const daemon = await startDaemon({
  home,
  port: 0,
  log: pino({ level: 'silent' }),
  parts: { createWorker: farm.factory, library, fabric: new FakeSwitch() },
});
const { services } = daemon;
const { vms, disks, backups, snapshots, snapshotUses, rebases, operations } = services;
/** A second look at the database, beside the daemon's. */
const store = new Store(
  openDatabase(path.join(home, 'db.sqlite'), path.join(import.meta.dirname, '../../../migrations')),
);

async function contentOf(config: Parameters<typeof openDisk>[0], count: number): Promise<number[]> {
  const disk = openDisk({ ...config, tracking: undefined, readOnly: true });
  try {
    const bytes = new Uint8Array(count * BLOCK_BYTES);
    await disk.read(0, [bytes]);
    const blocks = Array.from({ length: count }, (_, block) =>
      bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES),
    );
    // Of a base the first byte stands for the block; what was written fills it.
    return blocks.map((block) => (block.every((byte) => byte === block[0]) ? block[0]! : -1));
  } finally {
    await disk.close();
  }
}

function diskOf(device: string) {
  const vm = vms.find(SYSTEM, 'web');
  return store.disks.ofVm(vm.id).find((disk) => disk.device === device)!;
}

function fail(problem: string): never {
  process.stdout.write(`failed: ${problem}\n`);
  process.exit(1);
}

/** Everything that the journal promises. What is found is what the next run begins with. */
async function check(): Promise<void> {
  const found: Entry[] = [];
  const blocks = await contentOf(disks.config(diskOf('ubd0')), BLOCKS);
  const problem = judge('the disk', blocks, model.disk);
  if (problem !== undefined) fail(problem);
  found.push({ t: 'disk', blocks });
  const rows = store.snapshots.page({ after: 0, limit: 1000 }, vms.find(SYSTEM, 'web').id);
  for (const [name] of model.snapshots) {
    if (!rows.some((row) => row.name === name)) fail(`the snapshot ${name} is gone`);
  }
  for (const row of rows) {
    if (row.state === 'deleting' && !model.snapshots.has(row.name)) continue;
    const allowed = model.snapshots.get(row.name) ?? model.perhaps.get(row.name);
    if (allowed === undefined) fail(`nobody has asked for the snapshot ${row.name}`);
    const layers = store.snapshots.disks([row.id]);
    const [root, data] = ['ubd0', 'ubd1'].map((device) => layers.find((layer) => layer.device === device)!);
    const common = { device: 'ubd0', readOnly: true };
    const config = (layerId: string) => ({
      ...common,
      ...layerConfig({ store, home: services.home, library }, layerId),
    });
    const content = await contentOf(config(root!.layer_id), BLOCKS + 1);
    const wrong = judge(`the snapshot ${row.name}`, content.slice(0, BLOCKS), allowed);
    if (wrong !== undefined) fail(wrong);
    const [count] = await contentOf(config(data!.layer_id), 1);
    const lead = (content[BLOCKS]! - count! + 256) % 256;
    if (lead > 1)
      fail(`the snapshot ${row.name} has its disks at two moments: ${content[BLOCKS]} and ${count}`);
    found.push({ t: 'snapshot', name: row.name, blocks: content.slice(0, BLOCKS) });
  }
  await checkBackups(found);
  const [word] = await contentOf(disks.config(disks.find(SYSTEM, 'moved')), 1);
  if (word !== MOVED) fail(`the disk that is rebased holds ${word}`);
  fs.writeFileSync(`${journalFile}.new`, found.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
  fs.renameSync(`${journalFile}.new`, journalFile);
}

/** What the last daemon was asked for and had not begun is made by this one. */
async function lateBackups(): Promise<void> {
  for (const operation of store.operations.open()) {
    if (operation.kind === 'backup.create') await operations.wait(SYSTEM, operation.id, 60_000);
  }
}

/** Each is whole by its hashes, and restored it holds what it must. */
async function checkBackups(found: Entry[]): Promise<void> {
  await lateBackups();
  const rows = store.backups.page({ after: 0, limit: 1000 }, vms.find(SYSTEM, 'web').id);
  for (const [name] of model.backups) {
    if (!rows.some((row) => row.name === name)) fail(`the backup ${name} is gone`);
  }
  for (const row of rows) {
    if (row.state !== 'available') continue;
    // Made before this daemon had a guest, of disks as the kill has left them: not at one moment.
    const nowMade = row.taken_at >= performance.timeOrigin;
    const late = nowMade || model.lateBackups.has(row.name);
    const allowed = nowMade
      ? model.lateBackup(row.name)
      : (model.backups.get(row.name) ?? model.perhapsBackups.get(row.name));
    if (allowed === undefined) fail(`nobody has asked for the backup ${row.name}`);
    if ((await ended(await backups.verify(SYSTEM, row.id))) !== 'succeeded') fail(`${row.name} is damaged`);
    const name = `check-${row.id}`;
    const restored = await ended(await backups.restore(SYSTEM, row.id, BackupRestore.parse({ name })));
    if (restored !== 'succeeded') fail(`${row.name} cannot be restored`);
    const [root, data] = store.disks.ofVm(vms.find(SYSTEM, name).id).map((disk) => disks.config(disk));
    const content = await contentOf(root!, BLOCKS + 1);
    const wrong = judge(`the backup ${row.name}`, content.slice(0, BLOCKS), allowed);
    if (wrong !== undefined) fail(wrong);
    const [count] = await contentOf(data!, 1);
    const lead = (content[BLOCKS]! - count! + 256) % 256;
    if (lead > 1 && !late)
      fail(`the backup ${row.name} has its disks at two moments: ${content[BLOCKS]} and ${count}`);
    await vms.delete(SYSTEM, name, false);
    found.push({ t: 'backup', name: row.name, blocks: content.slice(0, BLOCKS), late });
  }
}

const MOVED = 77;

async function prepare(): Promise<void> {
  disks.create(SYSTEM, DiskCreate.parse({ name: 'data', size_bytes: DATA_BYTES }));
  disks.create(SYSTEM, DiskCreate.parse({ name: 'moved', image: 'default' }));
  const moved = openDisk({ ...disks.config(disks.find(SYSTEM, 'moved')), tracking: undefined });
  await moved.write(0, [new Uint8Array(BLOCK_BYTES).fill(MOVED)]);
  await moved.close();
  const body = { name: 'web', image: 'default', autostart: 'never', disks: [{ disk: 'data' }] };
  await vms.create(SYSTEM, VmCreate.parse(body));
  const root = openDisk({ ...disks.config(diskOf('ubd0')), tracking: undefined });
  await root.write(0, [new Uint8Array((BLOCKS + 1) * BLOCK_BYTES).fill(0)]);
  await root.close();
  journal({ t: 'disk', blocks: Array.from({ length: BLOCKS }, () => 0) });
}

let guest = false;
let counter = 0;

/** Fills blocks with values, flushes now and then, and counts on both disks. */
async function writeOnce(): Promise<void> {
  const machine = farm.of('web');
  const block = random(BLOCKS);
  const value = 1 + random(255);
  journal({ t: 'write', block, value });
  await machine.disk('ubd0').write(block * BLOCK_BYTES, [new Uint8Array(BLOCK_BYTES).fill(value)]);
  counter = (counter + 1) % 256;
  const count = new Uint8Array(BLOCK_BYTES).fill(counter);
  await machine.disk('ubd0').write(BLOCKS * BLOCK_BYTES, [count]);
  await machine.disk('ubd1').write(0, [count]);
  if (random(6) > 0) return;
  const begun = entries;
  await machine.disk('ubd0').flush();
  journal({ t: 'flushed', entries: begun });
}

async function guestLoop(): Promise<never> {
  for (;;) {
    if (!guest) await setTimeout(1);
    else {
      try {
        await writeOnce();
      } catch (error) {
        // Its machine was halted for a rollback.
        if (guest) fail(`the guest's disk: ${String(error)}`);
      }
      await (random(8) === 0 ? setTimeout(1) : setImmediate());
    }
  }
}

async function ended(operation: { readonly id: string }): Promise<string> {
  const done = await operations.wait(SYSTEM, operation.id, 60_000);
  return done.status;
}

let made = 0;

async function takeSnapshot(): Promise<void> {
  const name = `s${seed}-${made++}`;
  journal({ t: 'snapshot-begun', name });
  await snapshots.create(SYSTEM, 'web', { name, quiesce: false });
  journal({ t: 'snapshot-done', name });
}

/** As many as can be checked in little time. */
const BACKUPS_MAX = 2;

async function backUp(): Promise<void> {
  const [old] = model.backups.keys();
  if (old !== undefined && model.backups.size >= BACKUPS_MAX) {
    journal({ t: 'remove-begun', name: old });
    await backups.delete(SYSTEM, old);
    if (random(2) === 0) await ended(await backups.destinations.collect(SYSTEM, 'local'));
  }
  const name = `b${seed}-${made++}`;
  journal({ t: 'backup-begun', name });
  const status = await ended(await backups.create(SYSTEM, 'web', BackupCreate.parse({ name })));
  if (status !== 'succeeded') fail(`the backup ${status}`);
  journal({ t: 'backup-done', name });
}

const anySnapshot = (): string | undefined =>
  [...model.snapshots.keys()][random(Math.max(model.snapshots.size, 1))];

async function act(): Promise<void> {
  const name = anySnapshot();
  const choice = random(13);
  if (choice < 4 || name === undefined) {
    if (model.snapshots.size < 8) return await takeSnapshot();
  }
  if (name === undefined) return;
  if (choice < 7) {
    journal({ t: 'delete-begun', name });
    const rate = random(2) === 0 ? RATE : undefined;
    const deleted = await snapshots.delete(SYSTEM, 'web', name, rate);
    if (random(2) === 0) await ended(deleted);
  } else if (choice === 7) {
    guest = false;
    await setTimeout(2);
    journal({ t: 'rollback-begun', name });
    const status = await ended(snapshotUses.rollback(SYSTEM, 'web', name, { force: true }));
    if (status !== 'succeeded') fail(`the rollback ${status}`);
    journal({ t: 'rollback-done', name });
    guest = true;
  } else if (choice === 8) {
    const clone = await snapshotUses.clone(SYSTEM, 'web', name, { start: false });
    await vms.delete(SYSTEM, clone.id, false);
  } else if (choice > 9) await backUp();
  else {
    const image = [undefined, 'default', 'other'][random(3)];
    await ended(await rebases.begin(SYSTEM, 'moved', image));
  }
}

/** Files and records are the same set. */
function checkFiles(): void {
  const known = new Set(store.layers.paths());
  for (const layer of known) if (!fs.existsSync(path.join(home, layer))) fail(`the file ${layer} is missing`);
  for (const folder of ['layers', 'disks']) {
    for (const name of fs.readdirSync(path.join(home, folder))) {
      if (!known.has(`${folder}/${name}`)) fail(`nobody knows the file ${folder}/${name}`);
    }
  }
  const half = [...store.layers.inState('merging'), ...store.layers.inState('sealing')];
  if (half.length > 0) fail(`${half.length} layers are half done`);
  const loose = store.layers.loose();
  if (loose.some(({ children }) => children < 2)) fail('layers are left that nobody needs');
}

async function settled(): Promise<void> {
  for (;;) {
    const open = store.operations.open();
    if (open.length === 0) return;
    for (const operation of open) await operations.wait(SYSTEM, operation.id, 60_000);
  }
}

if (first) await prepare();
else await check();
if (settle !== undefined) {
  await settled();
  await check();
  checkFiles();
  process.stdout.write('settled\n');
  await daemon.close();
  process.exit(0);
}
counter = (await contentOf(disks.config(diskOf('ubd0')), BLOCKS + 1))[BLOCKS]!;
if ((await ended(vms.start(SYSTEM, 'web'))) !== 'succeeded') fail('the VM does not start');
guest = true;
void guestLoop();
process.stdout.write('churning\n');
for (;;) {
  try {
    await act();
  } catch (error) {
    const { code } = toAppError(error);
    // Somebody else is at it, or the same disk is being rebased.
    if (!['locked', 'conflict', 'not_found', 'in_use'].includes(code)) fail(String((error as Error).stack));
  }
  await setTimeout(random(20));
}
