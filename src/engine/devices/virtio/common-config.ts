/** Layout of the common configuration structure and of what goes with it (virtio 1.2, 4.1.4). */

export const COMMON = {
  DEVICE_FEATURE_SELECT: 0x00,
  DEVICE_FEATURE: 0x04,
  DRIVER_FEATURE_SELECT: 0x08,
  DRIVER_FEATURE: 0x0c,
  CONFIG_MSIX_VECTOR: 0x10,
  NUM_QUEUES: 0x12,
  DEVICE_STATUS: 0x14,
  CONFIG_GENERATION: 0x15,
  QUEUE_SELECT: 0x16,
  QUEUE_SIZE: 0x18,
  QUEUE_MSIX_VECTOR: 0x1a,
  QUEUE_ENABLE: 0x1c,
  QUEUE_NOTIFY_OFF: 0x1e,
  QUEUE_DESC: 0x20,
  QUEUE_DRIVER: 0x28,
  QUEUE_DEVICE: 0x30,
  QUEUE_NOTIFY_DATA: 0x38,
  QUEUE_RESET: 0x3a,
  BYTES: 0x3c,
} as const;

/** Bits of the device status (2.1). */
export const STATUS = {
  ACKNOWLEDGE: 0x01,
  DRIVER: 0x02,
  DRIVER_OK: 0x04,
  FEATURES_OK: 0x08,
  NEEDS_RESET: 0x40,
  FAILED: 0x80,
} as const;

/** Feature bits that belong to the transport and the rings (6). */
export const FEATURE = {
  INDIRECT_DESC: 28,
  EVENT_IDX: 29,
  VERSION_1: 32,
} as const;

/** ISR status bits (4.1.4.5). */
export const ISR = { QUEUE: 1, CONFIG: 2 } as const;

export const NO_VECTOR = 0xffff;

/** `cfg_type` of the vendor-specific PCI capabilities (4.1.4). */
export const CFG_TYPE = { COMMON: 1, NOTIFY: 2, ISR: 3, DEVICE: 4, PCI: 5 } as const;

/** Each structure has a page of the BAR. */
export const PAGE = { COMMON: 0, ISR: 1, DEVICE: 2, NOTIFY: 3 } as const;
export const PAGE_BYTES = 0x1000;
export const NOTIFY_MULTIPLIER = 4;
