/** `config ethN[=NETWORK[,MAC]]` and `remove ethN`. */
import { type MconsoleResult, NICS_MAX } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import { parseUnit } from '../devices.ts';
import { ERRNO, ok, refuse, type VerbContext } from '../verb.ts';
import { removed } from './ubd.ts';

const MAC = /^([0-9a-f][02468ace])(:[0-9a-f]{2}){5}$/i;

/** UML has no answer to this ("No get_config routine defined"); here it is NETWORK,MAC, which can be set again. */
export async function queryEth({ services, who, vmId }: VerbContext, rest: string): Promise<MconsoleResult> {
  const parsed = parseUnit(rest, false);
  if (parsed === undefined) return refuse('Bad device number');
  const vm = await services.vms.get(who, vmId);
  const nic = vm.nics.find(({ device }) => device === `eth${parsed.unit}`);
  return ok(nic === undefined ? '' : `${nic.network},${nic.mac}`);
}

export async function setEth(context: VerbContext, rest: string, value: string): Promise<MconsoleResult> {
  const { services, who, vmId } = context;
  const parsed = parseUnit(rest, false);
  if (parsed === undefined || parsed.unit >= NICS_MAX) return refuse('Bad device number', ERRNO.EINVAL);
  if (parsed.flags !== '') return refuse("Expected '=' after device number", ERRNO.EINVAL);
  const [network = '', mac] = value.split(',', 2);
  if (mac !== undefined && !MAC.test(mac)) return refuse(`Bad hardware address ${mac}`, ERRNO.EINVAL);
  const device = `eth${parsed.unit}`;
  const { nics } = await services.vms.get(who, vmId);
  if (nics.some((nic) => nic.device === device)) return refuse('Device already configured', ERRNO.EINVAL);
  try {
    await services.devices.attachNic(who, vmId, { device, network, mac });
    return ok();
  } catch (error) {
    if (error instanceof AppError)
      return refuse(error.message, error.code === 'not_found' ? ERRNO.ENOENT : ERRNO.EINVAL);
    throw error;
  }
}

export async function removeEth(context: VerbContext, rest: string): Promise<MconsoleResult> {
  const { services, who, vmId } = context;
  const parsed = parseUnit(rest, false);
  if (parsed === undefined) return refuse('Bad device number');
  const device = `eth${parsed.unit}`;
  const { nics } = await services.vms.get(who, vmId);
  if (!nics.some((nic) => nic.device === device)) return refuse("Device doesn't exist", ERRNO.ENODEV);
  return await removed(() => services.devices.detachNic(who, vmId, device));
}
