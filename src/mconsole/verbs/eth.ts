/** `config ethN=…` and `remove ethN`. */
import { type MconsoleResult, NICS_MAX } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import { parseVector, type Vector } from '../../uml/vector.ts';
import { parseUnit } from '../devices.ts';
import type { Target } from '../target.ts';
import { attempt, ERRNO, refuse } from '../verb.ts';

/** As UML. */
export const queryEth = (): MconsoleResult => refuse('No get_config routine defined');

export async function setEth(target: Target, rest: string, value: string): Promise<MconsoleResult> {
  const parsed = parseUnit(rest, false);
  if (parsed === undefined || parsed.unit >= NICS_MAX) return refuse('Bad device number', ERRNO.EINVAL);
  if (parsed.flags !== '') return refuse("Expected '=' after device number", ERRNO.EINVAL);
  return await plug(target, parsed.unit, () => target.addNic(parsed.unit, value));
}

async function plug(target: Target, unit: number, add: () => Promise<void>): Promise<MconsoleResult> {
  if (await target.hasNic(unit)) return refuse('Device already configured', ERRNO.EINVAL);
  return await attempt(add);
}

/** `config vecN:KEY=VALUE,…`: a card with the transport, as one of `ethN`. */
export async function setVector(target: Target, argument: string): Promise<MconsoleResult> {
  if (!/^vec\d+:/.test(argument)) return refuse("Expected ':' after device number", ERRNO.EINVAL);
  let vector: Vector;
  try {
    vector = parseVector(argument);
  } catch (error) {
    if (error instanceof AppError) return refuse(`${error.message}; ${error.remedy}`, ERRNO.EINVAL);
    throw error;
  }
  const { unit, eth } = vector;
  return await plug(target, unit, () => target.addTransportNic(unit, eth));
}

export async function removeEth(target: Target, rest: string): Promise<MconsoleResult> {
  const parsed = parseUnit(rest, false);
  if (parsed === undefined || parsed.flags !== '') return refuse("Couldn't parse device number");
  return await attempt(() => target.removeNic(parsed.unit), REMOVAL);
}

/** A device that the guest uses, or does not let go of, is open in UML's words. */
const OPEN = refuse('Device is currently open', ERRNO.EBUSY);
export const REMOVAL = {
  not_found: refuse("Device doesn't exist", ERRNO.ENODEV),
  in_use: OPEN,
  guest_not_responding: OPEN,
} as const;
