import { z } from 'zod';
import { SHARE_TAG } from '../machine.ts';

export const SHARES_MAX = 8;

/** As in /proc/PID/uid_map: `count` ids from `guest` on are those from `host` on. */
export const IdRange = z.strictObject({
  guest: z.int().min(0).max(0xffff_fffe),
  host: z.int().min(0).max(0xffff_fffe),
  count: z.int().min(1).max(0xffff_ffff),
});
export type IdRange = z.infer<typeof IdRange>;

const ID_RANGES_MAX = 16;
const idMap = (whose: string) =>
  z
    .array(IdRange)
    .min(1)
    .max(ID_RANGES_MAX)
    .optional()
    .meta({
      description: `Which of the guest's ${whose} is whom on the host; when missing, its root is the daemon's own`,
    });

const fields = {
  tag: z
    .string()
    .regex(SHARE_TAG, 'use 1 to 31 letters, digits, ".", "_" and "-"')
    .meta({ description: 'What the guest names it by in `mount -t 9p -o trans=virtio TAG FOLDER`' }),
  path: z.string().min(1).max(4096).meta({
    description:
      'A folder of the host that the operator allows; for operators also ssh://USER@HOST/FOLDER and rclone:REMOTE:FOLDER',
  }),
  uid_map: idMap('users'),
  gid_map: idMap('groups'),
};

export const Share = z.object({
  ...fields,
  read_only: z.boolean(),
  set_id: z.boolean().meta({
    description: "Set-user-id and set-group-id bits are set on the host's files too",
  }),
});
export type Share = z.infer<typeof Share>;

export const ShareCreate = z.strictObject({
  ...fields,
  read_only: z.boolean().default(false),
  set_id: z.boolean().default(false),
});
export type ShareCreate = z.infer<typeof ShareCreate>;
export type ShareCreateInput = z.input<typeof ShareCreate>;
