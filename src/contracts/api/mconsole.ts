import { z } from 'zod';

/** Longest command: what UML's mconsole takes (512 with its NUL). */
export const MCONSOLE_COMMAND_MAX = 511;

export const MconsoleCommand = z.strictObject({
  command: z
    .string()
    .max(MCONSOLE_COMMAND_MAX)
    .meta({ examples: ['version', 'sysrq h', 'config ubd1=data'] }),
});
export const MconsoleConfig = z.strictObject({
  device: z
    .string()
    .min(1)
    .max(64)
    .meta({ examples: ['ubd1'] }),
  value: z.string().max(400).optional().meta({ description: 'Set it; ask for the setting when missing' }),
});
export const MconsoleRemove = z.strictObject({ device: z.string().min(1).max(64) });
export const MconsoleSysrq = z.strictObject({
  letter: z.string().max(8).default('h').meta({ description: "A key of the kernel's SysRq handler" }),
});

/** As UML's mconsole: `err` is 0, 1 or a negative errno, `text` the reply's text. */
export const MconsoleResult = z.object({ ok: z.boolean(), err: z.int(), text: z.string() });
export type MconsoleResult = z.infer<typeof MconsoleResult>;

export const MCONSOLE_VERBS = [
  'version',
  'help',
  'halt',
  'reboot',
  'config',
  'remove',
  'sysrq',
  'cad',
  'stop',
  'go',
  'log',
  'proc',
  'stack',
] as const;
export type MconsoleVerb = (typeof MCONSOLE_VERBS)[number];
