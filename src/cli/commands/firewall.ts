/** `umlaut firewall …` */
import { type Command, InvalidArgumentError } from 'commander';
import type { Firewall, FirewallCreateInput, FirewallRule } from '../../contracts/api/index.ts';
import { CommandContext } from '../context.ts';
import { formatAge, formatTable } from '../format.ts';
import type { Io } from '../io.ts';

type RuleInput = NonNullable<FirewallCreateInput['rules']>[number];

const RULE_FORM = 'in|out allow|deny [tcp|udp|icmp [FIRST[-LAST]]] [from|to CIDR|@FIREWALL[,…]]';

export function registerFirewall(program: Command, io: Io): void {
  const firewall = program.command('firewall').description('sets of rules for network cards');
  firewall
    .command('list')
    .description('all firewalls')
    .action(async (_options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.listFirewalls(), firewallTable);
    });
  firewall
    .command('show')
    .argument('<firewall>')
    .description('its rules')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.getFirewall(name), ruleLines);
    });
  firewall
    .command('create')
    .argument('<name>')
    .option('--rule <rule>', RULE_FORM, collectRule)
    .description('make a firewall; the first rule that matches decides, answers always pass')
    .action(async (name: string, { rule = [] }: { rule?: RuleInput[] }, command: Command) => {
      const context = new CommandContext(command, io);
      const made = await context.client.createFirewall({ name, rules: rule });
      context.print(made, () => `${made.name}\n`);
    });
  firewall
    .command('set')
    .argument('<firewall>')
    .option('--rule <rule>', RULE_FORM, collectRule)
    .description('give it other rules, at once on all network cards that have it')
    .action(async (name: string, { rule = [] }: { rule?: RuleInput[] }, command: Command) => {
      const context = new CommandContext(command, io);
      context.print(await context.client.updateFirewall(name, { rules: rule }), ruleLines);
    });
  firewall
    .command('delete')
    .argument('<firewall>')
    .description('delete a firewall that no network card has')
    .action(async (name: string, _options: object, command: Command) => {
      const context = new CommandContext(command, io);
      await context.client.deleteFirewall(name);
      context.print({ deleted: name }, () => `${name} deleted\n`);
    });
}

/** `in allow tcp 22 from 10.0.0.0/8` */
export function parseRule(text: string): RuleInput {
  const match =
    /^(in|out) (allow|deny)(?: (tcp|udp|icmp)(?: (\d+)(?:-(\d+))?)?)?(?: (from|to) (\S+))?$/.exec(
      text.trim(),
    ) ?? [];
  const [, direction, action, protocol, first, last, preposition, cidrs] = match;
  const isRight = preposition === undefined || (preposition === 'from') === (direction === 'in');
  if (direction === undefined || !isRight) throw new InvalidArgumentError(`Write it as ${RULE_FORM}.`);
  return {
    direction: direction === 'in' ? 'ingress' : 'egress',
    action: action === 'deny' ? 'deny' : 'allow',
    ...(protocol !== undefined && { protocol: protocol as 'tcp' | 'udp' | 'icmp' }),
    ...(first !== undefined && { ports: [Number(first), Number(last ?? first)] as [number, number] }),
    ...othersOf(cidrs?.split(',') ?? []),
  };
}

/** `@web` stands for the cards that have the firewall web. */
function othersOf(words: readonly string[]): Pick<RuleInput, 'cidrs' | 'members'> {
  const members = words.filter((word) => word.startsWith('@')).map((word) => word.slice(1));
  const cidrs = words.filter((word) => !word.startsWith('@'));
  return { ...(cidrs.length > 0 && { cidrs }), ...(members.length > 0 && { members }) };
}

function collectRule(text: string, previous: RuleInput[] = []): RuleInput[] {
  return [...previous, parseRule(text)];
}

/** As `parseRule` reads it. */
export function formatRule({ direction, action, protocol, ports, cidrs, members }: FirewallRule): string {
  const others = [...(cidrs ?? []), ...(members ?? []).map((name) => `@${name}`)];
  const isIn = direction === 'ingress';
  const range = ports === undefined ? [] : [ports[0] === ports[1] ? `${ports[0]}` : ports.join('-')];
  return [
    isIn ? 'in' : 'out',
    action,
    ...(protocol === 'any' ? [] : [protocol]),
    ...range,
    ...(others.length === 0 ? [] : [isIn ? 'from' : 'to', others.join(',')]),
  ].join(' ');
}

function firewallTable(firewalls: readonly Firewall[]): string {
  const rows = firewalls.map(({ name, tenant, rules, nics, created_at }) => [
    name,
    tenant,
    String(rules.length),
    String(nics),
    formatAge(created_at),
  ]);
  return formatTable(['NAME', 'TENANT', 'RULES', 'CARDS', 'AGE'], rows);
}

function ruleLines({ rules }: Firewall): string {
  return rules.map((rule) => `${formatRule(rule)}\n`).join('');
}
