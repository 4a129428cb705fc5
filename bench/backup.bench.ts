/** Backups (storage/backup.ts). Run with `node bench/backup.bench.ts [MiB] [folder] [content]`. */
import { tmpdir } from 'node:os';
import { backup } from './storage/backup.ts';

const [, , mib = '512', folder = tmpdir(), content] = process.argv;
process.stdout.write(`${await backup({ mib: Number(mib), folder, content })}\n`);
