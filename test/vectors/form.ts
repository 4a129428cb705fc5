/** What an instruction form is: everything needed to encode random instances of it and to judge the outcome. */
import type { TestCase } from './test-case.ts';

/** Bits of RFLAGS that instructions compute. */
export const FLAG = { CF: 0x001, PF: 0x004, AF: 0x010, ZF: 0x040, SF: 0x080, DF: 0x400, OF: 0x800 } as const;
export const STATUS_FLAGS = FLAG.CF | FLAG.PF | FLAG.AF | FLAG.ZF | FLAG.SF | FLAG.OF;

/** The operands that were chosen for an instance. */
export interface Operands {
  /** Operand size in bits; 0 where the form has none to choose. */
  readonly width: number;
  /** Register in ModRM.reg, or in the opcode. */
  readonly reg: number;
  /** Register in ModRM.rm, -1 for memory. */
  readonly rm: number;
  readonly imm: bigint;
}

export interface Form {
  readonly name: string;
  readonly family: 'integer' | 'control' | 'sse' | 'mmx' | 'x87';
  readonly opcode: readonly number[];
  /** 0x66, 0xf2 or 0xf3 as part of the opcode; 0 for none. */
  readonly prefix?: number;
  /** Operand sizes to choose from: 16 adds 0x66, 64 adds REX.W, 8 and 32 nothing. */
  readonly widths?: readonly number[];
  /** ModRM: both kinds, memory or register only, or none (default). */
  readonly modrm?: 'both' | 'memory' | 'register';
  /** ModRM.reg where it extends the opcode. */
  readonly digit?: number;
  /** ModRM.rm where it is a part of the opcode (register form). */
  readonly rm?: number;
  /** The register number is in the low 3 bits of the opcode. */
  readonly opcodeRegister?: boolean;
  /** Only 8 registers: no REX bit for ModRM.reg or ModRM.rm ('reg', 'rm', 'both'): MMX. */
  readonly eight?: 'reg' | 'rm' | 'both';
  /** Bytes that are accessed in memory; default the operand size. */
  readonly memoryBytes?: number;
  /** The address must be a multiple of this, otherwise #GP. */
  readonly align?: number;
  /** Bytes of immediate; 'z' is 2 or 4, 'v' is 2, 4 or 8. */
  readonly imm?: number | 'z' | 'v';
  /** A LOCK prefix is allowed with memory. */
  readonly lock?: boolean;
  /** Flags that the result leaves undefined. */
  readonly undefinedFlags?: number | ((test: TestCase, operands: Operands) => number);
  /** Bits of the x87 status word that are undefined. */
  readonly undefinedStatus?: number;
  /** Bits of the x87 status word that are undefined besides if the operation is invalid or gives a NaN. */
  readonly undefinedWithoutResult?: number;
  /** Results are approximations: relative error allowed, as a power of two, and of which kind of number. */
  readonly approximate?: { readonly bits: number; readonly kind: 'float32' | 'float80' };
  /** Adjusts the state before addresses are chosen; pins the registers whose values matter. */
  readonly prepare?: (test: TestCase, operands: Operands) => void;
  /** PUSHF stores the trap flag, with which only the reference runs. */
  readonly storesTrapFlag?: boolean;
}
