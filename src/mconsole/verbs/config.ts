import { parseDevice } from '../devices.ts';
import { refuse, type Verb } from '../verb.ts';
import { queryEth, setEth } from './eth.ts';
import { queryLine, setLine } from './lines.ts';
import { queryMemory, setMemory } from './memory.ts';
import { queryUbd, setUbd } from './ubd.ts';

export const config: Verb = {
  name: 'config',
  usage: 'config <dev>[=<config>]',
  help: 'Query the configuration of a device, or add one to a VM that does not run',
  run(context, argument) {
    const equals = argument.indexOf('=');
    const device = parseDevice(equals < 0 ? argument : argument.slice(0, equals));
    if (device === undefined) return refuse('Bad configuration option');
    const { driver, rest } = device;
    if (equals < 0) {
      if (driver === 'ubd') return queryUbd(context, rest);
      if (driver === 'mem') return queryMemory(context);
      return driver === 'con' || driver === 'ssl' ? queryLine(driver, rest) : queryEth(context, rest);
    }
    const value = argument.slice(equals + 1);
    if (driver === 'ubd') return setUbd(context, rest, value);
    if (driver === 'mem') return setMemory(context, value);
    return driver === 'con' || driver === 'ssl' ? setLine(driver, rest, value) : setEth(context, rest, value);
  },
};
