import { parseDevice } from '../devices.ts';
import { ERRNO, refuse, type Verb } from '../verb.ts';
import { removeEth } from './eth.ts';
import { removeHostfs } from './hostfs.ts';
import { removeHppfs } from './hppfs.ts';
import { removeLine } from './lines.ts';
import { removeUbd } from './ubd.ts';

export const remove: Verb = {
  name: 'remove',
  help: '    remove <dev> - Remove a device from UML \n',
  run(target, argument) {
    const device = parseDevice(argument);
    if (device === undefined) return refuse('Bad remove option');
    const { driver, rest } = device;
    if (driver === 'ubd') return removeUbd(target, rest);
    if (driver === 'mem') return refuse("Memory doesn't support the remove operation", ERRNO.EBUSY);
    if (driver === 'hppfs') return removeHppfs(target);
    if (driver === 'hostfs') return removeHostfs(target);
    return driver === 'con' || driver === 'ssl' ? removeLine(target, driver, rest) : removeEth(target, rest);
  },
};
