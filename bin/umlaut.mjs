#!/usr/bin/env node
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { launch, root } from './launch.mjs';

// The TypeScript of a checkout, or the JavaScript of a package: Node runs no TypeScript in node_modules.
const source = 'src/cli/main.ts';
launch(existsSync(join(root, source)) ? source : 'dist/cli/main.js');
