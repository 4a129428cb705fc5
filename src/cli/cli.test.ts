import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ErrorCode } from '../contracts/errors.ts';
import type { Io } from './io.ts';
import { runCli } from './program.ts';
import { type Answers, FakeDaemon, problem } from './testing/fake-daemon.ts';
import { sampleOperation, sampleVm } from './testing/samples.ts';

interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

let home: string;
let daemon: FakeDaemon | undefined;

beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), 'umlaut-cli-'));
  writeFileSync(join(home, 'admin-token'), 'secret-token\n');
});
afterAll(() => rmSync(home, { recursive: true }));
afterEach(async () => {
  await daemon?.close();
  daemon = undefined;
});

async function run(args: readonly string[], answers: Answers = {}, terminal = false): Promise<Outcome> {
  daemon = await FakeDaemon.start(answers, (socket) => {
    socket.send(
      JSON.stringify({ seq: 7, time: '2026-11-01T12:00:00Z', type: 'vm.state', resource: null, data: {} }),
    );
    socket.close(1000);
  });
  return runAt(daemon.url, args, terminal);
}

async function runAt(url: string, args: readonly string[], terminal = false): Promise<Outcome> {
  let stdout = '';
  let stderr = '';
  const io: Io = {
    stdout: { write: (text) => (stdout += text) },
    stderr: { write: (text) => (stderr += text), isTTY: terminal, columns: 100 },
    env: { UMLAUT_HOME: home, UMLAUT_URL: url },
    exitCode: 0,
  };
  const status = await runCli(args, io);
  return { status, stdout, stderr };
}

const page = (...items: unknown[]) => ({ status: 200, body: { items, next_cursor: null } });

describe('umlaut vm', () => {
  it('lists VMs as an aligned table, with the token of the state folder', async () => {
    const { status, stdout } = await run(['vm', 'list'], {
      'GET /v1/vms': [page(sampleVm(), sampleVm({ name: 'db', state: 'halted', nics: [] }))],
    });
    expect(status).toBe(0);
    expect(stdout.replace(/\d+d\n/g, 'AGE\n')).toBe(
      [
        'NAME   STATE    MEMORY  IMAGE    ADDRESS    AGE',
        'web-1  running  256M    default  10.0.77.2  AGE',
        'db     halted   256M    default  -          AGE',
        '',
      ].join('\n'),
    );
    expect(daemon?.asked[0]?.authorization).toBe('Bearer secret-token');
  });

  it('reads all pages', async () => {
    const { stdout } = await run(['vm', 'list', '--json'], {
      'GET /v1/vms': [
        { status: 200, body: { items: [sampleVm()], next_cursor: 'c2' } },
        page(sampleVm({ name: 'db' })),
      ],
    });
    expect(JSON.parse(stdout).map((vm: { name: string }) => vm.name)).toEqual(['web-1', 'db']);
    expect(daemon?.asked.map((asked) => asked.query.cursor)).toEqual([undefined, 'c2']);
  });

  it('creates a VM from its options', async () => {
    const args = ['vm', 'create', 'web-1', '--memory', '1.5G', '--nic', 'a', '--nic', 'b', '--disk', 'data'];
    const more = ['--label', 'role=web', '--label', 'x=1=2', '--append', 'quiet', '--start'];
    const limits = ['--iops', '100', '--bandwidth', '2M', '--on-error', 'pause'];
    const { status, stdout } = await run([...args, ...more, ...limits], {
      'POST /v1/vms': [{ status: 201, body: sampleVm() }],
      [`POST /v1/vms/${sampleVm().id}/start`]: [{ status: 202, body: sampleOperation() }],
      [`GET /v1/vms/${sampleVm().id}`]: [{ status: 200, body: sampleVm() }],
    });
    expect({ status, stdout }).toEqual({ status: 0, stdout: 'web-1\n' });
    expect(daemon?.asked[0]?.body).toEqual({
      name: 'web-1',
      memory_bytes: 1.5 * 1024 ** 3,
      append: 'quiet',
      disks: [{ disk: 'data' }],
      nics: [{ network: 'a' }, { network: 'b' }],
      labels: { role: 'web', x: '1=2' },
      start: false,
      root_disk: { limits: { iops: 100, bytes_per_second: 2 * 1024 ** 2 }, on_error: 'pause' },
    });
  });

  it('gives network cards transports in place of networks', async () => {
    const transport = { kind: 'daemon', socket: '/tmp/uml.ctl' } as const;
    const state = { up: false, detail: 'no such file', path: null };
    const nic = { ...sampleVm().nics[0]!, network: null, transport, transport_state: state, addresses: [] };
    const vm = sampleVm({ nics: [nic] });
    const create = ['vm', 'create', '--nic', 'daemon:/tmp/uml.ctl', '--nic', 'nat:', '--nic', 'lab'];
    await run(create, { 'POST /v1/vms': [{ status: 201, body: vm }] });
    expect(daemon?.asked[0]?.body).toMatchObject({
      nics: [{ transport }, { transport: { kind: 'nat' } }, { network: 'lab' }],
    });
    const attach = ['network', 'attach', 'web-1', '--transport', 'tuntap:tap0'];
    const { stdout } = await run(attach, { 'POST /v1/vms/web-1/nics': [{ status: 200, body: vm }] });
    expect(daemon?.asked[0]?.body).toEqual({ transport: { kind: 'tuntap', device: 'tap0' } });
    expect(stdout).toContain('daemon:/tmp/uml.ctl down: no such file');
    expect((await run(['vm', 'create', '--nic', 'ethertap:x'])).status).toBe(2);
  });

  it('makes and changes networks', async () => {
    const network = { id: 'net-1', name: 'lab', tenant: 'default', shared: false, subnet: '10.9.0.0/24' };
    const rest = {
      uml_socket: null,
      uplink_state: null,
      ports: 0,
      leases: [],
      created_at: sampleVm().created_at,
    };
    const body = { ...network, ...rest };
    const make = [
      'network',
      'create',
      'lab',
      '--subnet',
      '10.9.0.0/24',
      '--ipv6',
      'fd00:9::/64',
      '--ipv6-dhcp',
    ];
    await run([...make, '--uplink', 'nat'], { 'POST /v1/networks': [{ status: 201, body }] });
    const ipv6 = { prefix: 'fd00:9::/64', addressing: 'dhcp' };
    const made = { name: 'lab', subnet: '10.9.0.0/24', uplink: { kind: 'nat' }, ipv6 };
    expect(daemon?.asked[0]?.body).toEqual(made);
    const taken = [
      '--uplink',
      'none',
      '--ipv6',
      'none',
      '--dns-server',
      'none',
      '--no-services',
      '--name',
      'x',
    ];
    await run(['network', 'update', 'lab', ...taken], { 'PATCH /v1/networks/lab': [{ status: 200, body }] });
    const back = { uplink: null, ipv6: null, dns_servers: null };
    expect(daemon?.asked[0]?.body).toEqual({ ...back, services: false, name: 'x' });
    const configure = ['network', 'configure', 'web-1', 'eth0', '--vlan', 'none'];
    await run(configure, { 'PATCH /v1/vms/web-1/nics/eth0': [{ status: 200, body: sampleVm() }] });
    expect(daemon?.asked[0]?.body).toEqual({ vlan: null });
  });

  it('fails when the VM that it has created does not start', async () => {
    const error = { code: 'image_corrupt', detail: 'vmlinuz differs', remedy: 'Import it again.' } as const;
    const { status, stderr } = await run(['vm', 'create', 'web-1', '--start'], {
      'POST /v1/vms': [{ status: 201, body: sampleVm() }],
      [`POST /v1/vms/${sampleVm().id}/start`]: [
        { status: 202, body: sampleOperation({ status: 'failed', error }) },
      ],
    });
    expect(status).toBe(1);
    expect(stderr).toContain('vmlinuz differs');
  });

  it('waits for the end of a power verb', async () => {
    const running = sampleOperation({ status: 'running' });
    const { status, stdout, stderr } = await run(['vm', 'start', 'web-1'], {
      'POST /v1/vms/web-1/start': [{ status: 202, body: running }],
      'GET /v1/operations/op_1/wait': [
        { status: 200, body: running },
        { status: 200, body: sampleOperation() },
      ],
    });
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'web-1 started\n', stderr: '' });
  });

  it('fails with the error of the operation', async () => {
    const { status, stderr } = await run(['vm', 'start', 'web-1'], {
      'POST /v1/vms/web-1/start': [
        {
          status: 202,
          body: sampleOperation({
            status: 'failed',
            error: { code: 'image_corrupt', detail: 'vmlinuz differs', remedy: 'Import it again.' },
          }),
        },
      ],
    });
    expect(status).toBe(1);
    expect(stderr).toBe('error: vmlinuz differs (image_corrupt)\n  remedy: Import it again.\n');
  });

  it('quotes names in paths', async () => {
    await run(['vm', 'show', '../tokens?x']);
    expect(daemon?.asked[0]?.path).toBe('/v1/vms/..%2Ftokens%3Fx');
  });
});

describe('progress', () => {
  const building = sampleOperation({
    kind: 'image.build',
    status: 'running',
    progress: { done: 1, total: 4, unit: 'steps', message: 'fetching packages' },
  });
  const answers: Answers = {
    'POST /v1/images/build': [{ status: 202, body: building }],
    'GET /v1/operations/op_1/wait': [
      {
        status: 200,
        body: { ...building, status: 'succeeded', resources: [{ type: 'image', id: 'img_9' }] },
      },
    ],
  };

  it('is a bar on a terminal, gone at the end', async () => {
    const { stdout, stderr } = await run(['image', 'build'], answers, true);
    expect(stdout).toBe('img_9\n');
    expect(stderr).toBe('\r\x1b[Kimage.build  [######------------------]  25%  fetching packages\r\x1b[K');
  });

  it('is silent elsewhere', async () => {
    expect((await run(['image', 'build'], answers)).stderr).toBe('');
  });
});

describe('umlaut mconsole', () => {
  it('prints the reply as uml_mconsole does', async () => {
    const { status, stdout } = await run(['mconsole', 'web-1', 'sysrq', 'h'], {
      'POST /v1/vms/web-1/mconsole': [{ status: 200, body: { ok: true, err: 0, text: 'done' } }],
    });
    expect({ status, stdout }).toEqual({ status: 0, stdout: 'OK done\n' });
    expect(daemon?.asked[0]?.body).toEqual({ command: 'sysrq h' });
  });

  it('exits with 1 when the verb was refused', async () => {
    const { status, stdout } = await run(['mconsole', 'web-1', 'go'], {
      'POST /v1/vms/web-1/mconsole': [{ status: 200, body: { ok: false, err: 1, text: 'Not stopped' } }],
    });
    expect({ status, stdout }).toEqual({ status: 1, stdout: 'ERR Not stopped\n' });
  });
});

describe('umlaut events', () => {
  const event = { seq: 5, time: '2026-11-01T12:00:00Z', type: 'vm.created', data: {} };
  it('lists them until there are no more', async () => {
    const { stdout } = await run(['events', '--after', '4'], {
      'GET /v1/events': [
        { status: 200, body: { items: [{ ...event, resource: { type: 'vm', id: 'vm_1' } }], last_seq: 5 } },
        { status: 200, body: { items: [], last_seq: 5 } },
      ],
    });
    expect(stdout).toBe('5  2026-11-01T12:00:00Z  vm.created  vm/vm_1\n');
    expect(daemon?.asked.map((asked) => asked.query.after)).toEqual(['4', '5']);
  });

  it('follows them over a WebSocket opened with a ticket', async () => {
    const ticket = { ticket: 't', path: '/v1/events?ticket=t', expires_at: '2026-11-01T12:00:00Z' };
    const { status, stdout } = await run(['events', '--follow', '--json'], {
      'POST /v1/events/ticket': [{ status: 201, body: ticket }],
    });
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ seq: 7, type: 'vm.state' });
  });
});

describe('exit status', () => {
  it.each<[ErrorCode, number]>([
    ['invalid_input', 2],
    ['memory_too_small', 2],
    ['not_found', 3],
    ['conflict', 4],
    ['in_use', 4],
    ['locked', 4],
    ['internal', 1],
    ['forbidden', 1],
  ])('of %s is %i', async (code, expected) => {
    const { status, stderr, stdout } = await run(['vm', 'show', 'x'], {
      'GET /v1/vms/x': [problem(code, 'so it is', { field: 'vm', remedy: 'Do otherwise.' })],
    });
    expect({ status, stdout }).toEqual({ status: expected, stdout: '' });
    expect(stderr).toBe(`error: so it is (${code})\n  at:     vm\n  remedy: Do otherwise.\n`);
  });

  it('is 5 without a daemon', async () => {
    const { status, stderr } = await runAt('http://127.0.0.1:1', ['vm', 'list']);
    expect(status).toBe(5);
    expect(stderr).toContain('no daemon answers at http://127.0.0.1:1');
  });

  it.each([
    [[]],
    [['vm', 'fly', 'x']],
    [['vm', 'show']],
    [['vm', 'list', '--colour']],
    [['vm', 'create', '--memory', 'much']],
    [['vm', 'create', '--label', 'novalue']],
    [['vm', 'create', '--nic', 'none', '--nic', 'default']],
    [['vm', 'list', '--url', 'localhost:8470']],
    [['events', '--after', '-1']],
    [['image', 'import', 'x']],
  ])('is 2 for %j', async (args) => {
    const { status, stdout, stderr } = await run(args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).not.toBe('');
    expect(daemon?.asked).toEqual([]);
  });

  it('is 0 for help', async () => {
    const { status, stdout } = await run(['--help']);
    expect(status).toBe(0);
    expect(stdout).toContain('the daemon cannot be reached');
  });

  it('is 1 without a token, and names the file', async () => {
    const { status, stderr } = await run(['vm', 'list', '--token-file', '/nonexistent/token']);
    expect(status).toBe(1);
    expect(stderr).toContain('/nonexistent/token does not exist');
    expect(stderr).toContain('--token-file');
  });
});

it('gives errors as JSON with --json', async () => {
  const { stderr } = await run(['vm', 'show', 'x', '--json'], {
    'GET /v1/vms/x': [problem('not_found', 'no VM "x"')],
  });
  expect(JSON.parse(stderr)).toEqual({ error: { code: 'not_found', detail: 'no VM "x"' } });
});

it('lets no name steer the terminal', async () => {
  const { stdout } = await run(['vm', 'show', 'x'], {
    'GET /v1/vms/x': [{ status: 200, body: sampleVm({ image_name: '\x1b[2Jgone' }) }],
  });
  expect(stdout).toContain('\\u{1b}[2Jgone');
});

it('says so when the daemon speaks another language', async () => {
  const { status, stderr } = await run(['vm', 'show', 'x'], {
    'GET /v1/vms/x': [{ status: 200, body: { name: 1 } }],
  });
  expect(status).toBe(1);
  expect(stderr).toContain('Use the umlaut command of the same version as the daemon.');
});
