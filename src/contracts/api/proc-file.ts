import { z } from 'zod';

export const PROC_FILES_MAX = 64;
const TEXT_MAX = 64 * 1024;
const COMMAND_WORDS_MAX = 64;

/** A part of a path that is a name, and no dots. */
const PART = '(?!\\.{1,2}(?:/|$))[^/\\0]{1,255}';
const PATH = new RegExp(`^${PART}(?:/${PART}){0,31}$`);
const OWN = /^(?:self|thread-self)\//;

/** `/proc/self/status`, `self/status` and `pid/status` are the same file, of every process. */
const ProcPath = z
  .string()
  .max(1024)
  .transform((text) => text.replace(/^\/+(?:proc\/+)?/, '').replace(OWN, 'pid/'))
  .pipe(
    z
      .string()
      .regex(PATH, 'name a file below /proc, such as cpuinfo or sys/kernel/hostname')
      .refine((path) => path !== 'self' && path !== 'thread-self', 'the links self and thread-self stay'),
  )
  .meta({
    description:
      'Below /proc; a first part `pid` stands for every process, `comm:NAME` for those that run a program of that name. `mounts` and `net` are meant for all processes',
  });

const Filter = z
  .boolean()
  .optional()
  .meta({ description: "It is given what the guest's kernel has in the file, before it answers" });
const HostPath = z.string().min(1).max(4096);

export const ProcSource = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('hidden') }).meta({ description: 'There is no such file or folder' }),
  z.strictObject({ kind: z.literal('text'), text: z.string().max(TEXT_MAX) }),
  z
    .strictObject({ kind: z.literal('file'), path: HostPath })
    .meta({ description: 'A file of the host that the operator allows' }),
  z
    .strictObject({ kind: z.literal('socket'), path: HostPath, filter: Filter })
    .meta({ description: 'A stream socket of the host: what is read there, to the end' }),
  z
    .strictObject({
      kind: z.literal('command'),
      command: z.array(z.string().max(4096)).min(1).max(COMMAND_WORDS_MAX),
      filter: Filter,
    })
    .meta({
      description:
        'What a program of the host prints; the path of one that the operator allows, and arguments',
    }),
]);
export type ProcSource = z.infer<typeof ProcSource>;

export const ProcFile = z.object({ path: z.string(), source: ProcSource });
export type ProcFile = z.infer<typeof ProcFile>;

export const NewProcFile = z.strictObject({ path: ProcPath, source: ProcSource });

export const ProcFileList = z
  .array(NewProcFile)
  .max(PROC_FILES_MAX)
  .refine(
    (files) => new Set(files.map(({ path }) => path)).size === files.length,
    'each file can be there once',
  )
  .meta({
    description: "Files of the guest's /proc that the host replaces or hides; at once, also while it runs",
  });
