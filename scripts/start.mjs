// `npm start`: src/ as it is, started as bin/umlaut.mjs is.
import { launch } from '../bin/launch.mjs';

launch('scripts/start.ts');
