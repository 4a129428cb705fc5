import { AppError } from '../contracts/errors.ts';

/** The error for a word of the command line. `what` follows the word in the sentence. */
export function wrong(word: string, what: string, remedy: string): AppError {
  const message = `${JSON.stringify(word.slice(0, 200))} ${what}`;
  return new AppError('invalid_input', message, { field: word.slice(0, 80), remedy });
}
