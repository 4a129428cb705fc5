import { describe, expect, it } from 'vitest';
import { type MachineInspection, type ReplicaStart, ReplicaError } from './inspection.ts';
import { CpuReplica } from './replica.ts';

const PAGE = 4096;
const CODE = 0xffff_ffff_8100_0000n;
/** The page behind the code, under two addresses. */
const DATA = 0xffff_8880_0000_1000n;
const ALIAS = 0xffff_c900_0000_0000n;
const STACK = 0xffff_c900_0001_0000n;
/** mov $address, %rax */
const LOAD_RAX = (address: bigint): number[] => [0x48, 0xb8, ...bytesOf(address)];
const RET = 0xc3;

function bytesOf(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

/** A machine whose RAM has code, a page of data, and a stack. */
function machine(code: readonly number[]): {
  readonly view: MachineInspection;
  readonly ram: Buffer;
  start: ReplicaStart;
} {
  const ram = Buffer.alloc(3 * PAGE);
  ram.set(code);
  const pages = new Map([
    [CODE, 0],
    [DATA, PAGE],
    [ALIAS, PAGE],
    [STACK - BigInt(PAGE), 2 * PAGE],
  ]);
  const unused = 0n;
  return {
    ram,
    view: {
      ...{ ram, ramOffset: (physical) => physical, tsc: 77n },
      ...{
        pageTables: 0,
        cr3: unused,
        lstar: unused,
        rsp: unused,
        rip: unused,
        gsBase: unused,
        kernelGsBase: unused,
        cpl: 0,
      },
      arguments: [unused, unused, unused],
    },
    start: { translate: (page) => pages.get(page), gsBase: 0n, standIns: new Map() },
  };
}

function run(
  code: readonly number[],
  args: readonly bigint[] = [],
  start: Partial<ReplicaStart> = {},
): bigint {
  const made = machine(code);
  const before = Buffer.from(made.ram);
  const replica = new CpuReplica(made.view);
  replica.begin({ ...made.start, ...start });
  try {
    return replica.call(CODE, args, STACK);
  } finally {
    expect(made.ram).toEqual(before);
  }
}

describe('a replica', () => {
  it('calls a function with its arguments, and 0 for those that are missing', () => {
    // lea (%rdi, %rsi, 2), %rax; sub %r9, %rax; ret
    expect(run([0x48, 0x8d, 0x04, 0x77, 0x4c, 0x29, 0xc8, RET], [5n, 7n])).toBe(19n);
  });

  it('works on copies: the same page is one under all its addresses', () => {
    // mov $DATA, %rax; mov %rdi, (%rax); mov $ALIAS, %rax; mov (%rax), %rax; ret
    const code = [...LOAD_RAX(DATA), 0x48, 0x89, 0x38, ...LOAD_RAX(ALIAS), 0x48, 0x8b, 0x00, RET];
    const { view, ram, start } = machine(code);
    ram.writeBigUInt64LE(11n, PAGE);
    const replica = new CpuReplica(view);
    replica.begin(start);
    expect(replica.call(CODE, [99n], STACK)).toBe(99n);
    expect(replica.read(DATA, 8)).toEqual(bytesOf(99n));
    expect(ram.readBigUInt64LE(PAGE)).toBe(11n);
    // And the next one begins with what the machine has by then.
    ram.writeBigUInt64LE(12n, PAGE);
    replica.begin(start);
    expect(replica.read(ALIAS, 8)).toEqual(bytesOf(12n));
  });

  it('has memory of its own for what functions are told of', () => {
    // mov (%rdi), %rax; mov %rax, (%rsi); ret
    const { view, start } = machine([0x48, 0x8b, 0x07, 0x48, 0x89, 0x06, RET]);
    const replica = new CpuReplica(view);
    replica.begin(start);
    const { kernel, user, userBytes } = replica.scratch;
    replica.write(kernel, bytesOf(0x1234n));
    const last = user + BigInt(userBytes) - 8n;
    replica.call(CODE, [kernel, last], STACK);
    expect(replica.read(last, 8)).toEqual(bytesOf(0x1234n));
    replica.begin(start);
    expect(replica.read(last, 8)).toEqual(bytesOf(0n));
    expect(replica.read(kernel, 8)).toEqual(bytesOf(0n));
  });

  it('has the machine’s time, and its base of GS', () => {
    // rdtsc; ret
    expect(run([0x0f, 0x31, RET])).toBe(77n);
    // mov %gs:8, %rax; ret
    const code = [0x65, 0x48, 0x8b, 0x04, 0x25, 8, 0, 0, 0, RET];
    expect(run(code, [], { gsBase: CODE })).toBe(Buffer.from([...code, 0, 0, 0, 0, 0, 0]).readBigUInt64LE(8));
  });

  it('runs a stand-in in place of a function, which is told its first argument', () => {
    // push %rdi; call +1; ret; pop %rdi (never reached as a function: it has a stand-in)
    const code = [0x6a, 0x00, 0xe8, 0x05, 0, 0, 0, 0x48, 0x83, 0xc4, 0x08, RET, 0x0f, 0x0b];
    const standIns = new Map([[CODE + 12n, (first: bigint) => first * 2n]]);
    expect(run(code, [21n], { standIns })).toBe(42n);
    const refusing = new Map([
      [
        CODE + 12n,
        (): bigint => {
          throw new ReplicaError('no');
        },
      ],
    ]);
    expect(() => run(code, [], { standIns: refusing })).toThrow(new ReplicaError('no'));
  });

  it.each([
    ['a page that is not mapped', [0x48, 0x8b, 0x07, RET], 'nothing is mapped at 0x1000'],
    ['an invalid instruction', [0x0f, 0x0b], 'exception 6 is raised'],
    [
      'a register of the model that is not there',
      [0xb9, 0x11, 0x22, 0x33, 0x44, 0x0f, 0x32, RET],
      'exception 13 is raised',
    ],
    ['an endless loop', [0xeb, 0xfe], 'it does not come to its end'],
    ['a halt', [0xf4], 'the CPU is halted'],
    ['a port', [0xe4, 0x70, RET], 'a device would be asked'],
    // mov %rdi, %cr3: of page tables that are none
    ['other page tables', [0x0f, 0x22, 0xdf, RET], 'the CPU shuts down'],
    // lea -16M(%rsp), %rsp; push…: the stack leads out of what is mapped
    ['a stack that is too long', [0x50, 0xeb, 0xfd], 'nothing is mapped'],
  ])('gives up at %s', (_, code, message) => {
    expect(() => run(code, [0x1000n])).toThrow(ReplicaError);
    expect(() => run(code, [0x1000n])).toThrow(message);
  });

  it('gives up where a function wants all of memory, and begins anew', () => {
    // loop: mov (%rdi), %rax; add $4096, %rdi; jmp loop
    const { view, start } = machine([0x48, 0x8b, 0x07, 0x48, 0x81, 0xc7, 0, 0x10, 0, 0, 0xeb, 0xf4]);
    const ram = Buffer.alloc(PAGE * 8192, view.ram[0]);
    ram.set(view.ram);
    const replica = new CpuReplica({ ...view, ram });
    const everywhere = (page: bigint): number | undefined =>
      start.translate(page) ?? Number(page & 0x1ff_f000n);
    replica.begin({ ...start, translate: everywhere });
    expect(() => replica.call(CODE, [0x4000_0000n], STACK)).toThrow('it needs too much memory');
    replica.begin(start);
    expect(() => replica.call(CODE, [0x1000n], STACK)).toThrow('nothing is mapped at 0x1000');
  });
});
