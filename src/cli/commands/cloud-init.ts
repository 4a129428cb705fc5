/** What `vm create` gives to the guest's cloud-init. */
import { readFileSync } from 'node:fs';
import type { VmCreateInput } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';

export interface CloudInitOptions {
  readonly userData?: string;
  readonly sshKey?: string[];
  readonly networkConfig?: string;
}

/** Empty when nothing of it was asked for. */
export function cloudInit({
  userData,
  sshKey,
  networkConfig,
}: CloudInitOptions): Pick<VmCreateInput, 'cloud_init'> {
  if (userData === undefined && sshKey === undefined && networkConfig === undefined) return {};
  return {
    cloud_init: {
      ...(userData !== undefined && { user_data: read(userData, '--user-data') }),
      ...(sshKey !== undefined && { ssh_keys: sshKey.map((file) => read(file, '--ssh-key').trim()) }),
      ...(networkConfig !== undefined && { network_config: read(networkConfig, '--network-config') }),
    },
  };
}

function read(file: string, option: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new AppError('not_found', `${file} cannot be read: ${reason}`, {
      field: option,
      remedy: 'name a file that is there',
      cause,
    });
  }
}
