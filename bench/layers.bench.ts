/** Layers of a disk (storage/layers.ts). Run with `node bench/layers.bench.ts [MiB] [folder]`. */
import { tmpdir } from 'node:os';
import { layers } from './storage/layers.ts';

process.stdout.write(`${await layers(Number(process.argv[2] ?? 512), process.argv[3] ?? tmpdir())}\n`);
