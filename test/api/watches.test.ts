import { describe, expect, it } from 'vitest';
import type { EventPage } from '../../src/contracts/api/index.ts';
import { ttyName, ttyRecords } from '../../src/uml/tty-log.ts';
import { startHarness } from './support/harness.ts';

const RECORD = {
  time: 1,
  kind: 'exec',
  pid: 5,
  ppid: 1,
  uid: 0,
  euid: 0,
  comm: 'sh',
  path: '/bin/ls',
  arguments: ['ls'],
} as const;

describe('a VM that is watched', () => {
  it('has what its programs do in a log and on the event stream', async () => {
    const api = await startHarness();
    await api.runVm('web', { watch: ['exec', 'connect', 'exec'] });
    expect((await api.vm('web')).watch).toEqual(['exec', 'connect']);
    const machine = api.farm.of('web');
    expect(machine.data.config.trace).toEqual(['exec', 'connect']);
    machine.say({
      type: 'trace',
      records: [RECORD, { ...RECORD, kind: 'open', path: '/etc/x' }],
      dropped: 2,
    });
    await api.operate('/v1/vms/web/halt');
    const answer = await api.get('/v1/vms/web/trace').expect(200);
    expect(answer.headers['content-type']).toContain('application/x-ndjson');
    const lines = String(answer.text ?? answer.body)
      .trim()
      .split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      RECORD,
      { ...RECORD, kind: 'open', path: '/etc/x' },
      { time: expect.any(Number), dropped: 2 },
    ]);
    const events = (await api.get('/v1/events?type=vm.traced').expect(200)).body as EventPage;
    expect(events.items.map(({ data }) => data)).toEqual([{ records: [RECORD], dropped: 0 }]);
  });

  it('is watched, and no longer watched, while it runs', async () => {
    const api = await startHarness();
    await api.runVm('web');
    const machine = api.farm.of('web');
    expect(machine.data.config.trace).toEqual([]);
    await api.patch('/v1/vms/web', { watch: ['open', 'tty'] }).expect(200);
    expect(machine.requests.at(-1)).toEqual({ type: 'trace', kinds: ['open'] });
    machine.print('ttyS0', 'seen');
    await api.patch('/v1/vms/web', { watch: [] }).expect(200);
    expect(machine.requests.at(-1)).toEqual({ type: 'trace', kinds: [] });
    machine.print('ttyS0', 'unseen');
    await api.operate('/v1/vms/web/halt');
    const log = (await api.get('/v1/vms/web/tty-log').buffer(true).expect(200)).body as Buffer;
    const records = [...ttyRecords(log)];
    expect(records.map(({ operation, tty }) => [operation, ttyName(tty)])).toEqual([
      [1, 'ttyS0'],
      [3, 'ttyS0'],
      [2, 'ttyS0'],
    ]);
    expect(Buffer.from(records[1]!.data).toString()).toBe('seen');
    const cast = await api.get('/v1/vms/web/tty-log?format=asciicast').buffer(true).expect(200);
    expect(String(cast.text ?? cast.body)).toMatch(/^\{"version":2,.*\}\n\[0,"o","seen"\]\n$/);
    const missing = await api.get('/v1/vms/web/tty-log?format=asciicast&console=hvc0').expect(404);
    expect(missing.body).toMatchObject({ field: 'console', remedy: 'use one of ttyS0' });
    expect((await api.patch('/v1/vms/web', { watch: ['all'] }).expect(400)).body.field).toBe('watch[0]');
  });
});
