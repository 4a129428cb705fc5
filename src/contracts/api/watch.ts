import { z } from 'zod';

/** What of a guest is written down without its knowing: started programs, opened files, connections; what is on its consoles. */
export const Watch = z.enum(['exec', 'open', 'connect', 'tty']);
export type Watch = z.infer<typeof Watch>;

export const WatchList = z
  .array(Watch)
  .max(Watch.options.length)
  .transform((list) => [...new Set(list)])
  .meta({ description: 'What is logged of the guest from outside; nothing in it takes part or can tell' });

export const TtyQuery = z.strictObject({
  format: z.enum(['uml', 'asciicast']).default('uml').meta({
    description:
      "uml: the records of UML's tty_log, all consoles in one; asciicast: version 2, of one console",
  }),
  console: z.string().max(40).optional(),
});
