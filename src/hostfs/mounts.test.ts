import { expect, test } from 'vitest';
import { mayHang } from './mounts.ts';

const MOUNTS = `21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
22 21 0:20 / /srv rw shared:2 - xfs /dev/vdb rw
23 22 0:40 / /srv/far\\040away rw - fuse.sshfs host:/ rw,user_id=0
24 21 0:41 / /nfs rw - nfs4 host:/ rw,hard
25 24 0:42 / /nfs/here rw - tmpfs none rw
26 21 0:43 / /over rw - ext4 /dev/vdc rw
27 21 0:44 / /over rw - fuse.rclone remote: rw
`;

test.each([
  ['/home/a', false],
  ['/srvother', false],
  ['/srv/near', false],
  ['/nfs/here', false],
  ['/srv/far away', true],
  ['/srv/far away/within', true],
  ['/nfs', true],
  ['/nfs/there', true],
  ['/over', true],
  // What is mounted in it counts.
  ['/srv', true],
  ['/', true],
])('%s: %s', (folder, expected) => {
  expect(mayHang(folder, MOUNTS)).toBe(expected);
});
