/** Single-use, short-lived tickets that open a WebSocket, so that no bearer token is in a URL. In memory only. */
import { randomBytes } from 'node:crypto';
import { AppError } from '../../contracts/errors.ts';
import type { Principal } from '../access.ts';

const LIFETIME_MS = 30_000;
const OPEN_MAX = 10_000;

export interface TicketUse {
  readonly who: Principal;
  /** What it opens: `console VM NAME` or `events`. */
  readonly purpose: string;
  readonly readOnly: boolean;
}

export class Tickets {
  readonly #open = new Map<string, TicketUse & { readonly expiresAt: number }>();

  mint(use: TicketUse): { ticket: string; expires_at: string } {
    this.#sweep();
    if (this.#open.size >= OPEN_MAX) {
      throw new AppError('rate_limited', 'too many tickets are waiting to be used', {
        remedy: 'try again later',
      });
    }
    const ticket = randomBytes(24).toString('base64url');
    const expiresAt = Date.now() + LIFETIME_MS;
    this.#open.set(ticket, { ...use, expiresAt });
    return { ticket, expires_at: new Date(expiresAt).toISOString() };
  }

  /** Uses it up. Undefined when it is unknown, used, too old or for something else. */
  redeem(ticket: string, purpose: string): TicketUse | undefined {
    const use = this.#open.get(ticket);
    this.#open.delete(ticket);
    if (use === undefined || use.purpose !== purpose || use.expiresAt < Date.now()) return undefined;
    return use;
  }

  #sweep(): void {
    const now = Date.now();
    // Oldest first: Map keeps the order of insertion.
    for (const [ticket, { expiresAt }] of this.#open) {
      if (expiresAt >= now) break;
      this.#open.delete(ticket);
    }
  }
}
