/** `config ubdN` and `remove ubdN`: disks by the names the API knows them by, or host paths that the operator allows. */
import { DISKS_MAX, DiskCreate, type MconsoleResult } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import { parseUnit } from '../devices.ts';
import { ERRNO, ok, refuse, type VerbContext } from '../verb.ts';

const FLAGS = /^[rsctd]{0,3}$/;
const OUT_OF_RANGE = 'Device number out of range';

export async function queryUbd({ services, who, vmId }: VerbContext, rest: string): Promise<MconsoleResult> {
  const parsed = parseUnit(rest, true);
  if (parsed === undefined) return refuse('ubd_get_config : parse_unit failed');
  if (parsed.unit >= DISKS_MAX) return refuse('ubd_get_config : device number out of range');
  const vm = await services.vms.get(who, vmId);
  const disk = vm.disks.find(({ device }) => device === `ubd${parsed.unit}`);
  if (disk === undefined) return ok();
  const { path, name, image_id } = disk;
  if (path !== null) return ok(path);
  return ok(image_id === null ? name : `${name},${services.images.get(image_id).name ?? image_id}`);
}

export async function setUbd(context: VerbContext, rest: string, value: string): Promise<MconsoleResult> {
  const { services, who, vmId } = context;
  const parsed = parseUnit(rest, true);
  if (parsed === undefined) return refuse("Couldn't parse device number", ERRNO.EINVAL);
  if (parsed.unit >= DISKS_MAX) return refuse(OUT_OF_RANGE);
  if (parsed.flags.length > 3) return refuse('Too many flags specified', ERRNO.EINVAL);
  if (!FLAGS.test(parsed.flags)) {
    return refuse("Expected '=' or flag letter (r, s, c, t or d)", ERRNO.EINVAL);
  }
  const device = `ubd${parsed.unit}`;
  const [first = '', second] = value.split(',', 2);
  if (parsed.flags.includes('d') && second !== undefined) {
    return refuse("Can't specify both 'd' and a cow file", ERRNO.EINVAL);
  }
  const readOnly = parsed.flags.includes('r');
  const { disks } = await services.vms.get(who, vmId);
  if (disks.some((disk) => disk.device === device))
    return refuse('Device is already configured', ERRNO.EBUSY);
  try {
    if (first.startsWith('/')) {
      await services.devices.attachFile(who, vmId, device, first, second, readOnly);
    } else {
      if (second !== undefined) makeOverImage(context, first, second);
      await services.devices.attachDisk(who, vmId, {
        disk: first,
        device,
        ...(readOnly ? { read_only: true } : {}),
      });
    }
    return ok();
  } catch (error) {
    return refusal(error);
  }
}

export async function removeUbd(context: VerbContext, rest: string): Promise<MconsoleResult> {
  const { services, who, vmId } = context;
  const parsed = parseUnit(rest, true);
  if (parsed === undefined) return refuse("Couldn't parse device number");
  if (parsed.unit >= DISKS_MAX)
    return refuse(`Invalid device number - must be between 0 and ${DISKS_MAX - 1}`);
  const device = `ubd${parsed.unit}`;
  const { disks } = await services.vms.get(who, vmId);
  if (!disks.some((disk) => disk.device === device)) return refuse("Device doesn't exist", ERRNO.ENODEV);
  return await removed(() => services.devices.detachDisk(who, vmId, device));
}

/** A device that the guest uses, or does not let go of, is open in UML's words. */
export async function removed(detach: () => Promise<unknown>): Promise<MconsoleResult> {
  try {
    await detach();
    return ok();
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    if (error.code === 'not_found') return refuse("Device doesn't exist", ERRNO.ENODEV);
    const isOpen = error.code === 'in_use' || error.code === 'guest_not_responding';
    return refuse(isOpen ? 'Device is currently open' : error.message, ERRNO.EBUSY);
  }
}

/** `cow,backing`: as UML makes a COW file that is missing, so a disk of that name is made over the image. */
function makeOverImage({ services, who }: VerbContext, name: string, imageRef: string): void {
  const image = services.images.find(imageRef);
  try {
    const disk = services.disks.find(who, name);
    if (disk.image_id === image.id) return;
    throw new AppError('conflict', `disk ${name} is not over image ${imageRef}`);
  } catch (error) {
    if (!(error instanceof AppError && error.code === 'not_found')) throw error;
  }
  services.disks.create(who, DiskCreate.parse({ name, image: image.id }));
}

function refusal(error: unknown): MconsoleResult {
  if (!(error instanceof AppError)) throw error;
  switch (error.code) {
    case 'not_found':
      return refuse("Couldn't determine size of device's file", ERRNO.ENOENT);
    case 'in_use':
      return refuse(error.message, ERRNO.EBUSY);
    case 'forbidden':
      return refuse(error.message, ERRNO.EACCES);
    default:
      return refuse(error.message, ERRNO.EINVAL);
  }
}
