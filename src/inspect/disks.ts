/** Block devices that a guest has open: mounted, swapped to, part of another device, or held by a program (block/bdev.c). */
import type { LinuxKernel } from './kernel.ts';

const DEVICES_MAX = 10_000;
const NAME_BYTES = 32;
/** The first bus, function 0. */
const PCI_NAME = /^0000:00:([0-9a-f]{2})\.0$/;

/** PCI slots of virtio disks that are open, themselves or one of their partitions. Throws InspectError. */
export function openDiskSlots(kernel: LinuxKernel): Set<number> {
  const open = new Set<number>();
  const superBlock = kernel.memory.u64(kernel.symbol('blockdev_superblock'));
  const inodes = kernel.field('super_block', 's_inodes', superBlock);
  const inInode = BigInt(kernel.types.offset('bdev_inode', 'vfs_inode'));
  for (const inode of kernel.list(inodes, 'inode', 'i_sb_list', DEVICES_MAX)) {
    const device = inode - inInode;
    if (kernel.i32('block_device', 'bd_openers', device) === 0) continue;
    const slot = slotOf(kernel, device);
    if (slot !== undefined) open.add(slot);
  }
  return open;
}

/** A disk's parent is the virtio device, and that one's the PCI function. */
function slotOf(kernel: LinuxKernel, device: bigint): number | undefined {
  const disk = kernel.u64('block_device', 'bd_disk', device);
  if (disk === 0n) return undefined;
  const whole = kernel.u64('gendisk', 'part0', disk);
  let parent = kernel.u64('device', 'parent', kernel.field('block_device', 'bd_device', whole));
  if (parent !== 0n) parent = kernel.u64('device', 'parent', parent);
  if (parent === 0n) return undefined;
  const name = kernel.memory.text(kernel.u64('device', 'kobj.name', parent), NAME_BYTES);
  const found = PCI_NAME.exec(name);
  return found === null ? undefined : Number.parseInt(found[1]!, 16);
}
