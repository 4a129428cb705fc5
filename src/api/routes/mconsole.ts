import {
  MconsoleCommand,
  MconsoleConfig,
  MconsoleRemove,
  MconsoleResult,
  MconsoleSysrq,
} from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import { runCommand, runVerb, sysrqKey } from '../../mconsole/index.ts';
import { principalOf } from '../request.ts';
import { address, NoBody, problems, type RouteGroup, VmParams } from '../route.ts';

const tags = ['mconsole'];
const response = { 200: MconsoleResult, ...problems };

/** A refusal in UML's words is an answer (`ok: false`); only what UML could not answer is an error. */
export const mconsoleRoutes: RouteGroup = (app, services) => {
  app.route({
    ...address('mconsole'),
    schema: { operationId: 'mconsole', tags, params: VmParams, body: MconsoleCommand, response },
    handler: (request) => runCommand(services, principalOf(request), request.params.vm, request.body.command),
  });

  for (const [operationId, verb] of [
    ['mconsoleVersion', 'version'],
    ['mconsoleHelp', 'help'],
    ['mconsoleHalt', 'halt'],
    ['mconsoleReboot', 'reboot'],
    ['mconsoleCad', 'cad'],
    ['mconsoleStop', 'stop'],
    ['mconsoleGo', 'go'],
  ] as const) {
    app.route({
      ...address(operationId),
      schema: { operationId, tags, params: VmParams, body: NoBody, response },
      handler: (request) => runVerb(services, principalOf(request), request.params.vm, verb, ''),
    });
  }

  app.route({
    ...address('mconsoleConfig'),
    schema: { operationId: 'mconsoleConfig', tags, params: VmParams, body: MconsoleConfig, response },
    handler: (request) => {
      const { device, value } = request.body;
      const argument = value === undefined ? device : `${device}=${value}`;
      return runVerb(services, principalOf(request), request.params.vm, 'config', argument);
    },
  });

  app.route({
    ...address('mconsoleRemove'),
    schema: { operationId: 'mconsoleRemove', tags, params: VmParams, body: MconsoleRemove, response },
    handler: (request) =>
      runVerb(services, principalOf(request), request.params.vm, 'remove', request.body.device),
  });

  app.route({
    ...address('mconsoleSysrq'),
    schema: { operationId: 'mconsoleSysrq', tags, params: VmParams, body: MconsoleSysrq, response },
    handler: (request) => {
      const key = sysrqKey(request.body.letter);
      if (key instanceof AppError) throw key;
      return runVerb(services, principalOf(request), request.params.vm, 'sysrq', key);
    },
  });
};
