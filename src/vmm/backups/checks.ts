/** The jobs that make sure of backups: reading all of them back, and booting a clone. */
import type { JobContext, JobPayloads } from '../../contracts/jobs.ts';
import { AppError, toAppError } from '../../contracts/errors.ts';
import type { BackupRow } from '../../db/index.ts';
import { notFound, SYSTEM } from '../access.ts';
import type { Instance } from '../instance/instance.ts';
import type { BackupDeps } from './deps.ts';
import type { BackupRestoration } from './restoration.ts';

const LOGIN_PROMPT = /login: *$/m;
const BOOT_TIMEOUT_MS = 10 * 60 * 1000;
const TAIL_CHARS = 2000;
/** On the throwaway VM of a test. */
export const TEST_LABEL = 'umlaut/restore-test';

export class BackupChecks {
  readonly #deps: BackupDeps;
  readonly #restoration: BackupRestoration;

  constructor(deps: BackupDeps, restoration: BackupRestoration) {
    this.#deps = deps;
    this.#restoration = restoration;
  }

  /** Fails with `backup_corrupt` when anything is damaged; what is, is written down with each backup. */
  async verify(payload: JobPayloads['backup.verify'], context: JobContext): Promise<unknown> {
    const { store, stores } = this.#deps;
    const { destinationId, backupId } = payload;
    const backupIds = backupId === null ? null : [backupId];
    const onProgress = (done: number, total: number): void =>
      context.progress({ done: Math.floor((done / total) * 100), total: 100, unit: 'percent' });
    const result = await stores.run(
      destinationId,
      'verify',
      { backupIds },
      { signal: context.signal, onProgress },
    );
    const now = Date.now();
    const checked =
      backupId === null ? store.backups.inDestination(destinationId) : [store.backups.get(backupId)];
    for (const backup of checked) {
      if (backup?.state === 'available') {
        const damage = result.damaged.find((place) => place.backupId === backup.id);
        const lost = result.damagedBackups.includes(backup.id)
          ? (damage?.detail ?? 'chunks are damaged')
          : null;
        const where = damage?.device == null ? '' : `${damage.device} at byte ${damage.offset}: `;
        this.#verified(backup, now, lost === null ? null : `${where}${lost}`);
      }
    }
    if (result.damagedBackups.length > 0) {
      const names = result.damagedBackups.map((id) => store.backups.get(id)?.name ?? id);
      throw new AppError(
        'backup_corrupt',
        `damaged: ${names.slice(0, 10).join(', ')}; ${result.damaged[0]?.detail}`,
        {
          field: 'backup',
          remedy: 'make a full backup of these VMs now: it stores again what is damaged',
        },
      );
    }
    return { backups: result.backups, chunks: result.chunks, bytes: result.bytes };
  }

  /** Restores to a VM without network, boots it and waits for its login prompt; the VM is deleted in any case. */
  async test(payload: JobPayloads['backup.test'], context: JobContext): Promise<void> {
    const { store, supervisor } = this.#deps;
    const backup = store.backups.get(payload.backupId);
    if (backup === undefined) throw notFound('backup', payload.backupId);
    const { operationId, backupId, vmId, imageId } = payload;
    try {
      await this.#restoration.restore(
        {
          operationId,
          backupId,
          vmId,
          imageId,
          tenant: backup.tenant,
          name: testName(vmId),
          autostart: 'never',
          labels: { [TEST_LABEL]: backupId },
          start: false,
          isolated: true,
        },
        context,
      );
      await this.#boot(supervisor.get(vmId), context.signal);
      this.#tested(backup, null);
    } catch (error) {
      // A request to end says nothing about the backup.
      if (!context.signal.aborted) this.#tested(backup, toAppError(error));
      throw error;
    } finally {
      await this.#drop(vmId);
    }
  }

  /** At start: VMs of tests that were cut off. */
  async recover(): Promise<void> {
    for (const vm of this.#deps.store.vms.all()) {
      // Both: a user can give a VM any label.
      if (vm.name === testName(vm.id) && TEST_LABEL in (JSON.parse(vm.labels) as object))
        await this.#drop(vm.id);
    }
  }

  async #drop(vmId: string): Promise<void> {
    const { store, vms, log } = this.#deps;
    if (store.vms.get(vmId) === undefined) return;
    try {
      await vms.delete(SYSTEM, vmId, true);
    } catch (error) {
      log.error(
        { vm: vmId, error: toAppError(error).message },
        'the VM of a restore test could not be deleted',
      );
    }
  }

  async #boot(instance: Instance, signal: AbortSignal): Promise<void> {
    const prompt = Promise.withResolvers<void>();
    let tail = '';
    const untap = instance.consoles.tap((bytes) => {
      tail = (tail + Buffer.from(bytes).toString('latin1')).slice(-TAIL_CHARS);
      if (LOGIN_PROMPT.test(tail)) prompt.resolve();
    });
    const timer = setTimeout(() => prompt.reject(noPrompt(tail)), BOOT_TIMEOUT_MS);
    const abort = (): void => prompt.reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    try {
      await instance.start();
      const ended = instance.runEnded().then(() => {
        throw new AppError('machine_failed', `the guest ended before its login prompt: ${lastLine(tail)}`);
      });
      if (signal.aborted) abort();
      await Promise.race([prompt.promise, ended]);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      untap();
    }
  }

  #verified(backup: BackupRow, at: number, damage: string | null): void {
    const { store, events } = this.#deps;
    store.transaction(() => {
      store.backups.verified(backup.id, at, damage);
      const resource = { type: 'backup', id: backup.id } as const;
      events.append({ type: 'backup.verified', tenant: backup.tenant, resource, data: { damage } });
    });
  }

  #tested(backup: BackupRow, error: AppError | null): void {
    const { store, events } = this.#deps;
    const plain = error?.toPlain() ?? null;
    store.transaction(() => {
      store.backups.tested(backup.id, Date.now(), plain === null ? null : JSON.stringify(plain));
      const resource = { type: 'backup', id: backup.id } as const;
      events.append({ type: 'backup.tested', tenant: backup.tenant, resource, data: { error: plain } });
    });
  }
}

function testName(vmId: string): string {
  return `restore-test-${vmId.slice('vm-'.length)}`;
}

function noPrompt(tail: string): AppError {
  const detail = `no login prompt within ${BOOT_TIMEOUT_MS / 60_000} minutes; the last line was: ${lastLine(tail)}`;
  return new AppError('guest_not_responding', detail, { field: 'backup' });
}

function lastLine(text: string): string {
  return JSON.stringify(
    text
      .trim()
      .split(/[\r\n]+/)
      .at(-1) ?? '',
  );
}
