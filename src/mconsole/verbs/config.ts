import { parseDevice } from '../devices.ts';
import { refuse, type Verb } from '../verb.ts';
import { queryEth, setEth, setVector } from './eth.ts';
import { setHostfs } from './hostfs.ts';
import { setHppfs } from './hppfs.ts';
import { queryLine, setLine } from './lines.ts';
import { queryMemory, setMemory } from './memory.ts';
import { queryUbd, setUbd } from './ubd.ts';

export const config: Verb = {
  name: 'config',
  help: `    config <dev>=<config> - Add a new device to UML;  
\tsame syntax as command line 
    config <dev> - Query the configuration of a device 
`,
  run(target, argument) {
    const device = parseDevice(argument);
    if (device === undefined) return refuse('Bad configuration option');
    const { driver, rest } = device;
    const equals = rest.indexOf('=');
    if (equals < 0) {
      if (driver === 'ubd') return queryUbd(target, rest);
      if (driver === 'mem') return queryMemory(target);
      if (driver === 'hppfs' || driver === 'hostfs') return refuse('Bad configuration option');
      return driver === 'con' || driver === 'ssl' ? queryLine(target, driver, rest) : queryEth();
    }
    const [name, value] = [rest.slice(0, equals), rest.slice(equals + 1)];
    if (driver === 'ubd') return setUbd(target, name, value);
    if (driver === 'mem') return setMemory(target, value);
    if (driver === 'hppfs') return setHppfs(target, name, value);
    if (driver === 'hostfs') return setHostfs(target, name, value);
    if (driver === 'con' || driver === 'ssl') return setLine(target, driver, name, value);
    if (driver === 'vec') return setVector(target, argument);
    return setEth(target, name, value);
  },
};
