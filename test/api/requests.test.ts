import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROUTES } from '../../src/contracts/api/index.ts';
import { startHarness } from './support/harness.ts';

describe('the description', () => {
  it('has every route of the contract, and the server has no other', async () => {
    const api = await startHarness();
    const { body } = await api.anonymous().get('/openapi.json').expect(200);
    expect(body.openapi).toBe('3.1.0');
    const described = Object.entries(
      body.paths as Record<string, Record<string, { operationId: string }>>,
    ).flatMap(([address, methods]) =>
      Object.entries(methods).map(
        ([method, { operationId }]) => `${operationId} ${method.toUpperCase()} ${address}`,
      ),
    );
    const known = ROUTES.map(
      ({ operationId, method, path: address }) => `${operationId} ${method} ${address}`,
    );
    expect(described.sort()).toEqual([...known].sort());
  });

  it('names version and extensions without a token', async () => {
    const api = await startHarness();
    const { body } = await api.anonymous().get('/v1').expect(200);
    expect(body).toMatchObject({ api_version: 'v1', auth: 'bearer' });
    expect(body.extensions).toContain('mconsole');
    await api.anonymous().get('/v1/host').expect(401);
    expect((await api.get('/v1/host').expect(200)).body).toMatchObject({
      vms: { total: 0, running: 0 },
      home: api.home,
    });
  });
});

describe('tokens', () => {
  it('are needed, and a wrong one is told apart from none', async () => {
    const api = await startHarness();
    const none = await api.anonymous().get('/v1/vms').expect(401);
    expect(none.headers['content-type']).toContain('application/problem+json');
    expect(none.headers['www-authenticate']).toContain('Bearer');
    expect(none.body).toMatchObject({ code: 'unauthenticated', status: 401, instance: '/v1/vms' });
    expect(none.body.request_id).toBe(none.headers['x-request-id']);
    const wrong = await api
      .anonymous()
      .get('/v1/vms')
      .set('authorization', 'Bearer umlaut_wrong')
      .expect(401);
    expect(wrong.body.detail).toContain('not known');
    await api.anonymous().get('/v1/vms').set('authorization', 'Basic abc').expect(401);
  });

  it('of the admin: in a file of mode 0600, and only a hash in the database', async () => {
    const api = await startHarness();
    const file = path.join(api.home, 'admin-token');
    expect(fs.statSync(file).mode & 0o777).toBe(0o600);
    await api.daemon.close();
    const database = fs.readFileSync(path.join(api.home, 'db.sqlite'));
    expect(database.includes(api.token)).toBe(false);
    expect(database.includes('idempotency_keys')).toBe(true);
  });

  it('see their tenant alone: what is foreign does not exist', async () => {
    const api = await startHarness();
    const a = await api.tokenOf('user', 'a');
    const b = await api.tokenOf('user', 'b');
    const made = await api.as(a).post('/v1/vms').send({ name: 'web-1' }).expect(201);
    await api.as(b).post('/v1/vms').send({ name: 'web-1' }).expect(201);
    const { id } = made.body;
    for (const address of [`/v1/vms/${id}`, `/v1/vms/${id}/consoles`, `/v1/disks/${made.body.disks[0].id}`]) {
      expect((await api.as(b).get(address).expect(404)).body.code).toBe('not_found');
      await api.as(a).get(address).expect(200);
    }
    await api.as(b).delete(`/v1/vms/${id}`).expect(404);
    await api.as(b).post(`/v1/vms/${id}/mconsole`).send({ command: 'version' }).expect(404);
    expect((await api.as(b).get('/v1/vms')).body.items).toHaveLength(1);
    expect((await api.get('/v1/vms')).body.items).toHaveLength(2);
    expect((await api.get('/v1/vms/web-1').expect(409)).body.remedy).toBe('use its id');
    const events = (await api.as(b).get('/v1/events?limit=1000')).body.items as { data: { name?: string } }[];
    expect(JSON.stringify(events)).not.toContain(id);
    await api.delete(`/v1/vms/${id}`).expect(204);
  });

  it('of a viewer read, of a user write, of an admin rule', async () => {
    const api = await startHarness();
    const viewer = await api.tokenOf('viewer', 'a');
    const user = await api.tokenOf('user', 'a');
    await api.as(user).post('/v1/vms').send({ name: 'web-1' }).expect(201);
    await api.as(viewer).get('/v1/vms/web-1').expect(200);
    const refused = await api.as(viewer).post('/v1/vms/web-1/start').send({}).expect(403);
    expect(refused.body).toMatchObject({ code: 'forbidden', remedy: 'use a user token' });
    await api.as(user).get('/v1/tokens').expect(403);
    await api.as(user).post('/v1/images/build').send({}).expect(403);
    const tokens = (await api.get('/v1/tokens').expect(200)).body.items;
    expect(tokens.map((token: { name: string }) => token.name)).toEqual(['admin', 'viewer-a', 'user-a']);
    await api.delete('/v1/tokens/user-a').expect(204);
    await api.as(user).get('/v1/vms').expect(401);
    expect((await api.delete('/v1/tokens/admin').expect(403)).body.code).toBe('protected');
    await api.post('/v1/tokens', { name: 'viewer-a', role: 'viewer' }).expect(409);
  });

  it('have a budget of requests, told in headers', async () => {
    const api = await startHarness();
    const answer = await api.get('/v1/vms').expect(200);
    expect(answer.headers['ratelimit-limit']).toBe('1000');
    expect(Number(answer.headers['ratelimit-remaining'])).toBeLessThan(1000);
    expect(answer.headers['ratelimit-reset']).toBe('1');
  });
});

describe('bad input', () => {
  it('that is no JSON is told with its place', async () => {
    const api = await startHarness();
    const send = (text: string) =>
      api.as().post('/v1/vms').set('content-type', 'application/json').send(text);
    const broken = await send('{"name": "web-1",\n "memory_bytes": x}').expect(400);
    expect(broken.body).toMatchObject({ code: 'invalid_input', field: 'body' });
    expect(broken.body.detail).toContain('unexpected "x" at line 2, column 18');
    expect((await send('{"name": "web-1"').expect(400)).body.detail).toContain(
      'ends too early, at line 1, column 17',
    );
    expect((await send('[]').expect(400)).body.code).toBe('invalid_input');
    expect((await send('{"__proto__": {}}').expect(400)).body.field).toBe('__proto__');
  });

  it('names the field and the remedy', async () => {
    const api = await startHarness();
    const refused = async (body: object, status = 400) =>
      (await api.post('/v1/vms', body).expect(status)).body;
    expect(await refused({ nmae: 'x' })).toMatchObject({ code: 'invalid_input', field: 'nmae' });
    expect(await refused({ nics: [{ network: 'default', vlan: 1 }] })).toMatchObject({
      field: 'nics[0].vlan',
    });
    expect(await refused({ name: 'Web_1' })).toMatchObject({ field: 'name' });
    expect((await refused({ name: 'Web_1' })).detail).toContain('1 to 63 of a-z');
    expect(await refused({ memory_bytes: 'lots' })).toMatchObject({ field: 'memory_bytes' });
    expect(await refused({ memory_bytes: 64 * 1024 * 1024 + 1 })).toMatchObject({ field: 'memory_bytes' });
    expect(await refused({ append: 'a\nb' })).toMatchObject({ field: 'append' });
    expect(await refused({ image: 'none' }, 404)).toMatchObject({ code: 'not_found', field: 'image' });
    expect(await refused({ nics: [{ network: 'none' }] }, 404)).toMatchObject({ field: 'nics[0].network' });
    expect(await refused({ nics: [{ mac: '01:00:00:00:00:01' }] })).toMatchObject({ field: 'nics[0].mac' });
    expect(await refused({ disks: [{ disk: 'none' }] }, 404)).toMatchObject({ field: 'disk' });
    expect((await api.get('/v1/vms')).body.items).toEqual([]);
    expect(fs.readdirSync(path.join(api.home, 'vms'))).toEqual([]);
  });

  it('in addresses, queries, types and sizes is told', async () => {
    const api = await startHarness();
    expect((await api.get('/v1/vms/none').expect(404)).body).toMatchObject({
      code: 'not_found',
      detail: 'there is no VM "none"',
      remedy: 'list the VMs to see their ids and names',
    });
    expect((await api.get('/v1/nothing').expect(404)).body.code).toBe('not_found');
    expect((await api.get('/v1/vms?colour=red').expect(400)).body.field).toBe('colour');
    await api.get('/v1/vms/none/wait?state=flying').expect(400);
    const text = await api.as().post('/v1/vms').set('content-type', 'text/plain').send('hello').expect(415);
    expect(text.body.code).toBe('unsupported_media_type');
    const large = await api.post('/v1/vms', { name: 'x'.repeat(2 * 1024 * 1024) }).expect(413);
    expect(large.body.code).toBe('payload_too_large');
    await api.get('/v1/operations/none').expect(404);
    await api.get('/v1/backups/none').expect(404);
    await api.get('/v1/images/none').expect(404);
    await api.get('/v1/networks/none').expect(404);
    await api.delete('/v1/tokens/none').expect(404);
  });
});

describe('waiting', () => {
  it('leaves nothing behind on the connection', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web-1' });
    const warnings: Error[] = [];
    const listen = (warning: Error): void => void warnings.push(warning);
    process.on('warning', listen);
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const options = { agent, headers: { authorization: `Bearer ${api.token}` } };
    for (let i = 0; i < 12; i++) {
      const request = http.get(`${api.daemon.url}/v1/vms/web-1/wait?state=created&timeout=1`, options);
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      expect(response.statusCode).toBe(200);
      await once(response.resume(), 'end');
    }
    agent.destroy();
    // Warnings are told in a later turn.
    await new Promise((resolve) => setImmediate(resolve));
    process.off('warning', listen);
    expect(warnings).toEqual([]);
  });
});

describe('an idempotency key', () => {
  it('gives the first answer again, once the thing is done', async () => {
    const api = await startHarness();
    const send = (body: object) => api.post('/v1/vms', body).set('idempotency-key', 'key-1');
    const first = await send({ name: 'web-1' }).expect(201);
    const again = await send({ name: 'web-1' }).expect(201);
    expect(again.body).toEqual(first.body);
    expect(again.headers.location).toBe(first.headers.location);
    expect(again.headers['idempotency-replayed']).toBe('true');
    const other = await send({ name: 'web-2' }).expect(422);
    expect(other.body).toMatchObject({ code: 'idempotency_mismatch', field: 'Idempotency-Key' });
    expect((await api.get('/v1/vms')).body.items).toHaveLength(1);
    const another = await api
      .as(await api.tokenOf('user', 'a'))
      .post('/v1/vms')
      .set('idempotency-key', 'key-1')
      .send({ name: 'web-2' });
    expect(another.status).toBe(201);
  });

  it('is refused while the first request goes on, and carries out one of many', async () => {
    const api = await startHarness();
    const answers = await Promise.all(
      Array.from({ length: 20 }, () =>
        api.post('/v1/vms', { name: 'web-1' }).set('idempotency-key', 'key-1'),
      ),
    );
    for (const { status, body } of answers) {
      expect(status === 201 || body.code === 'idempotency_in_flight').toBe(true);
    }
    expect((await api.get('/v1/vms')).body.items).toHaveLength(1);
  });

  it('keeps refusals that are final and forgets those that may pass', async () => {
    const api = await startHarness();
    const send = (body: object) => api.post('/v1/vms', body).set('idempotency-key', 'key-1');
    await send({ name: 'web-1', image: 'none' }).expect(404);
    const again = await send({ name: 'web-1', image: 'none' }).expect(404);
    expect(again.headers['idempotency-replayed']).toBe('true');
    expect(again.headers['content-type']).toContain('application/problem+json');
    await api.createVm({ name: 'web-2' });
    const taken = () => api.post('/v1/vms', { name: 'web-2' }).set('idempotency-key', 'key-2');
    await taken().expect(409);
    await api.delete('/v1/vms/web-2').expect(204);
    await taken().expect(201);
    await api.post('/v1/vms', {}).set('idempotency-key', 'x'.repeat(200)).expect(400);
  });
});

describe('the dashboard', () => {
  it('and its terminal are served without a token', async () => {
    const api = await startHarness();
    const page = await api.anonymous().get('/').expect(200);
    expect(page.headers['content-type']).toContain('text/html');
    expect(page.headers['content-security-policy']).toContain("default-src 'self'");
    for (const file of ['xterm.mjs', 'xterm.css', 'addon-fit.mjs']) {
      await api.anonymous().get(`/vendor/xterm/${file}`).expect(200);
    }
    await api.anonymous().get('/../package.json').expect(404);
  });
});
