/** Snapshots and merges of the disks of a machine that runs, on the thread of its CPU. */
import type { LayerRequest, LayersFrozen } from '../contracts/ports.ts';
import { type GuestDisk, openFrozen, openLower, openNewTop } from '../storage/guest.ts';

/** Progress is told about so many times. */
const PROGRESS_STEPS = 200;

/** Carries a request out on the disk with a device's name. AppErrors as `LayeredVolume`. */
export function changeLayers(
  diskOf: (device: string) => GuestDisk,
  request: LayerRequest,
  report: (done: number, total: number) => void,
): unknown {
  switch (request.type) {
    case 'flush-layers':
      return Promise.all(request.devices.map(async (device) => await diskOf(device).layers.flush()));
    case 'freeze-layers':
      return freezeLayers(diskOf, request.layers);
    case 'seal-layers':
      return Promise.all(request.devices.map((device) => diskOf(device).layers.sealed()));
    case 'relayer':
      return diskOf(request.device).layers.relayer(openFrozen(request.files));
    case 'merge-top': {
      const { device, upper, lower, bytesPerSecond } = request;
      return diskOf(device).layers.mergeTop({
        upper,
        openLower: (below) => openLower(lower, below),
        onProgress: inSteps(report),
        bytesPerSecond,
      });
    }
    case 'hold-merge':
      return diskOf(request.device).layers.holdForMerge();
    case 'finish-merge':
      diskOf(request.device).layers.finishMerge(
        request.path === undefined ? undefined : { path: request.path },
      );
  }
}

/** All in one synchronous step: no request of the guest comes between two disks. */
export function freezeLayers(
  diskOf: (device: string) => GuestDisk,
  layers: Extract<LayerRequest, { type: 'freeze-layers' }>['layers'],
): LayersFrozen {
  const begun = performance.now();
  const opened = [];
  try {
    for (const { device, file, mtime } of layers) {
      const { layers: disk, readOnly } = diskOf(device);
      opened.push({ disk, mtime, top: openNewTop(disk, file, { mtime, readOnly }) });
    }
  } catch (error) {
    for (const { top } of opened) top.file.close();
    throw error;
  }
  for (const { disk, top, mtime } of opened) disk.freeze(top, mtime);
  return { milliseconds: performance.now() - begun, consistency: 'crash' };
}

/** Not each piece: every report is a message to another thread. */
function inSteps(report: (done: number, total: number) => void): (done: number, total: number) => void {
  let told = 0;
  return (done, total) => {
    if (done < told + total / PROGRESS_STEPS) return;
    told = done;
    report(done, total);
  };
}
