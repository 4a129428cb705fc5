/** Where the daemon's state is, when nobody says so. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const DEFAULT_URL = 'http://127.0.0.1:8470';

/** `UMLAUT_HOME`; else `var/` of a checkout; else the user's data folder (XDG base directories). */
export function defaultHome(env: Readonly<Record<string, string | undefined>>): string {
  if (env.UMLAUT_HOME) return env.UMLAUT_HOME;
  const root = fileURLToPath(new URL('../..', import.meta.url));
  if (existsSync(join(root, 'src/cli/main.ts'))) return join(root, 'var');
  return join(env.XDG_DATA_HOME || join(homedir(), '.local/share'), 'umlaut');
}

/** `UMLAUT_UML_DIR`; else where User Mode Linux and uml_mconsole look. */
export function defaultUmlDir(env: Readonly<Record<string, string | undefined>>): string {
  return env.UMLAUT_UML_DIR || join(homedir(), '.uml');
}
