/** Brings a guest's file systems to a state worth keeping, for the moment of a backup. */
import type { Consistency } from '../contracts/backup.ts';
import type { GuestAgent } from './guest-agent.ts';

/** The kernel says at once that it has got the key, and how it went when all is written. */
const SYSRQ_HEARD_MS = 2000;
const SYSRQ_DONE_MS = 15_000;
const HEARD = /sysrq: (?:SysRq : )?(Emergency Sync|This sysrq operation is disabled)/;
const DONE = /Emergency Sync complete/;
const TAIL_CHARS = 400;

export interface QuiescerDeps {
  readonly agent: GuestAgent;
  /** The kernel's messages, and its SysRq keys, are at the first serial port. */
  readonly hasSerialConsole: boolean;
  readonly isStopped: () => boolean;
  readonly sysRq: (letter: string) => void;
}

export class Quiescer {
  readonly #deps: QuiescerDeps;
  #tail = '';
  #heard: (() => void) | undefined;

  constructor(deps: QuiescerDeps) {
    this.#deps = deps;
  }

  /** What the first serial port prints. */
  printed(bytes: Uint8Array): void {
    if (this.#heard === undefined) return;
    this.#tail = (this.#tail + Buffer.from(bytes).toString('latin1')).slice(-TAIL_CHARS);
    this.#heard();
  }

  /**
   * Calls `moment` while the guest's file systems are frozen by its agent; else after the kernel has written out what it
   * had; else as the guest happens to be. The consistency says which.
   */
  async hold<T>(wanted: boolean, moment: (consistency: Consistency) => T): Promise<T> {
    const { agent, isStopped } = this.#deps;
    if (!wanted || isStopped()) return moment('crash');
    if (await agent.answers()) {
      try {
        if (await agent.freeze()) return moment('guest-agent');
      } finally {
        await this.#thaw();
      }
    }
    return moment((await this.#sync()) ? 'synced' : 'crash');
  }

  /** An agent that hangs leaves nothing frozen: the kernel itself lets go of what is (SysRq J). */
  async #thaw(): Promise<void> {
    const { agent, hasSerialConsole, sysRq } = this.#deps;
    if (!(await agent.thaw()) && hasSerialConsole) sysRq('j');
  }

  async #sync(): Promise<boolean> {
    if (!this.#deps.hasSerialConsole) return false;
    this.#tail = '';
    const heard = this.#printed(HEARD, SYSRQ_HEARD_MS);
    this.#deps.sysRq('s');
    const match = await heard;
    if (match?.[1] !== 'Emergency Sync') return false;
    return (await this.#printed(DONE, SYSRQ_DONE_MS)) !== undefined;
  }

  #printed(pattern: RegExp, timeoutMs: number): Promise<RegExpExecArray | undefined> {
    return new Promise((resolve) => {
      const settle = (match?: RegExpExecArray): void => {
        clearTimeout(timer);
        this.#heard = undefined;
        resolve(match);
      };
      const timer = setTimeout(settle, timeoutMs);
      const look = (): void => {
        const match = pattern.exec(this.#tail);
        if (match !== null) settle(match);
      };
      this.#heard = look;
      look();
    });
  }
}
