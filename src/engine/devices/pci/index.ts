/** PCI: the root bus, functions, and interrupts by pin and by message. */
export { createPciBus, PCI_WINDOW, PciBus, type PciBusCounters, type PciDevice } from './bus.ts';
export { CONFIG, COMMAND, type PciBar, PciFunction, type PciIdentity } from './function.ts';
export { PCI_HOTPLUG, PciHotplug, type PciHotplugHooks } from './hotplug.ts';
export { INTX_ROUTES, type IntxRoute, intxGsi, PCI_GSI_BASE, PCI_SLOTS } from './intx.ts';
export { MSIX_BAR_BYTES, Msix } from './msix.ts';
