/** What is to be watched, as it is written on the command line. */
import { InvalidArgumentError } from 'commander';
import { Watch } from '../contracts/api/index.ts';

/** `exec,tty`; `none` for nothing. */
export function parseWatch(text: string): Watch[] {
  if (text === 'none') return [];
  return text.split(',').map((word) => {
    const watch = Watch.safeParse(word);
    if (watch.success) return watch.data;
    throw new InvalidArgumentError(`Write none, or ${Watch.options.join(', ')} joined by commas.`);
  });
}
