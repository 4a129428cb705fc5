/** Resources as the daemon tells them. */
import type { Operation, Vm } from '../../contracts/api/index.ts';

const TIME = '2026-11-01T12:00:00.000Z';

export function sampleVm(changes: Partial<Vm> = {}): Vm {
  return {
    id: 'vm_1',
    name: 'web-1',
    state: 'running',
    cause: null,
    image_id: 'img_1',
    image_name: 'default',
    memory_bytes: 256 * 1024 * 1024,
    append: '',
    autostart: 'last-state',
    debug_exit_port: null,
    jit_code_bytes: null,
    disks: [],
    shares: [],
    watch: [],
    proc_files: [],
    nics: [{ device: 'eth0', mac: '02:00:00:00:00:01', network: 'default', addresses: ['10.0.77.2'] }],
    cloud_init: null,
    consoles: ['ttyS0'],
    labels: {},
    created_at: TIME,
    updated_at: TIME,
    started_at: TIME,
    version: 1,
    ...changes,
  };
}

export function sampleOperation(changes: Partial<Operation> = {}): Operation {
  return {
    id: 'op_1',
    kind: 'vm.start',
    status: 'succeeded',
    progress: null,
    resources: [{ type: 'vm', id: 'vm_1' }],
    may_cancel: false,
    error: null,
    created_at: TIME,
    updated_at: TIME,
    ended_at: TIME,
    ...changes,
  };
}
