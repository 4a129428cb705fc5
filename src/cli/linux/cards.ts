/** Network cards of a machine in the foreground. */
import { AppError } from '../../contracts/errors.ts';
import type { Eth } from '../../uml/eth.ts';
import type { Cards } from './foreground.ts';

export const cards: Cards = {
  async attach(unit: number, { text }: Eth): Promise<void> {
    throw new AppError(
      'invalid_input',
      `eth${unit}=${text} is a network card, which this command has not yet`,
      {
        field: `eth${unit}`,
        remedy: 'leave it out; `umlaut boot --nic` and the daemon have networks',
      },
    );
  },
};
