// Direct links between blocks, so that a jump within a page needs no look-up.
import { findBlock } from './blocks';
import { BLOCK_NO_PAGE, BLOCK_PAGE2, BLOCK_SIZE, STATE_RIP, UOP_LINK } from './layout';

/**
 * Makes the branch micro-op at `uop` jump straight to the block at RIP, which lies in the same page and so
 * under the same translation. A block that crosses into the next page is not linked: what is mapped there
 * can differ between address spaces.
 */
export function linkBlock(uop: i32): void {
  const rip = load<i64>(STATE_RIP);
  const target = findBlock();
  if (target == 0 || load<i64>(STATE_RIP) != rip) return;
  if (load<u32>(target - BLOCK_SIZE, BLOCK_PAGE2) != BLOCK_NO_PAGE) return;
  store<u32>(uop, target, UOP_LINK);
}
