/** How the guest, the API and the machine call a VM's consoles. */

/** The PC's serial ports. */
export const SERIALS = ['ttyS0', 'ttyS1', 'ttyS2', 'ttyS3'] as const;
/** The one that every VM has first. */
export const FIRST_SERIAL = SERIALS[0];

const LINES = 16;
/**
 * HVC_ALLOC_TTY_ADAPTERS (drivers/tty/hvc/hvc_console.h): Linux makes its driver of terminals for so many, once, in hvc_init. The
 * table for the kernel's own messages has 16 (MAX_NR_HVC_CONSOLES), but a ninth console has no device node.
 */
const TERMINALS = 8;

/**
 * Ports of the console device, of which a guest has the first, at least one. hvc0 to hvc7 are terminals; the others are
 * streams of bytes, /dev/virtio-ports/con8 and so on.
 */
export const VIRTIO_CONSOLES: readonly string[] = Array.from({ length: LINES }, (_, index) =>
  index < TERMINALS ? `hvc${index}` : `con${index}`,
);

/** The consoles of a VM that has so many of the console device's. */
export function consoleNames(virtioCount: number): string[] {
  return [...SERIALS, ...VIRTIO_CONSOLES.slice(0, virtioCount)];
}
