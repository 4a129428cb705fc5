import { z } from 'zod';
import { Name } from './common.ts';

const TEXT_MAX = 64 * 1024;
const SshKey = z
  .string()
  .max(16_384)
  .regex(
    /^(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\n\r]*)?$/,
    'write it as in a .pub file: ssh-ed25519 AAAA… name',
  );

/** What the guest's cloud-init is told, by a seed disk labelled `cidata` and by the metadata service at 169.254.169.254. */
export const CloudInit = z.strictObject({
  user_data: z
    .string()
    .max(TEXT_MAX)
    .optional()
    .meta({ description: 'As cloud-init takes it: #cloud-config, a script, …' }),
  ssh_keys: z.array(SshKey).max(64).optional().meta({ description: "Of the image's default user" }),
  host_name: Name.optional().meta({ description: "The VM's name when missing" }),
  network_config: z
    .string()
    .max(TEXT_MAX)
    .optional()
    .meta({ description: 'Version 1 or 2, in YAML; made from the network cards when missing' }),
  seed_disk: z.boolean().default(true).meta({ description: 'False: only the metadata service' }),
});
export type CloudInit = z.infer<typeof CloudInit>;
