/** Entry of the `umlaut` command; bin/umlaut.mjs runs it on the pinned Node. */
import { processIo } from './io.ts';
import { runCli } from './program.ts';

// A reader that goes away (`umlaut events | head`) is no error of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

process.exitCode = await runCli(process.argv.slice(2), processIo());
