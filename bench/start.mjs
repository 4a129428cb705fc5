// `npm run bench`: with the flags of V8 that the product has.
import { launch } from '../bin/launch.mjs';

launch('bench/run.ts');
