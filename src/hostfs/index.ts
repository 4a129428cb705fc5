/** Folders of the host for guests: UML's hostfs, over virtio and 9P2000.L. */
export { openShare } from './open.ts';
