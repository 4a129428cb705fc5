/** An integer loop on a bare vCPU: millions of guest instructions per second in each tier. */
import { memoryMap } from '../src/engine/layout.ts';
import { createCpu } from '../src/engine/vcpu.ts';

const RAM_BYTES = 16 << 20;
const ITERATIONS = 60_000_000;
const CODE = 0x10000;
const PAGE_TABLES = 0x1000;
const SLICE = 5_000_000;
const BUDGET_EXIT = 0;

/** mov ecx, ITERATIONS; loop: add rax, rcx; xor rax, rdx; lea rdx, [rdx + rax * 2 + 5]; dec rcx; jnz loop; hlt */
const PROGRAM = [
  0xb9,
  ITERATIONS & 0xff,
  (ITERATIONS >> 8) & 0xff,
  (ITERATIONS >> 16) & 0xff,
  ITERATIONS >> 24,
  0x48,
  0x01,
  0xc8,
  0x48,
  0x31,
  0xd0,
  0x48,
  0x8d,
  0x54,
  0x42,
  0x05,
  0x48,
  0xff,
  0xc9,
  0x75,
  0xf0,
  0xf4,
];

function run(jitThreshold: number | undefined): number {
  const map = memoryMap(RAM_BYTES, 4 << 20);
  const pages = map.end / 65536;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const hooks = {
    readMmio: () => 0,
    writeMmio: () => {},
    readPort: () => 0,
    writePort: () => {},
    readMsr: () => undefined,
    writeMsr: () => false,
    tscNow: () => performance.now() * 1e6,
  };
  const cpu = createCpu(memory, map, hooks, { jitThreshold });
  const ram = new DataView(memory.buffer, map.ram, map.ramBytes);
  ram.setBigUint64(PAGE_TABLES, BigInt(PAGE_TABLES + 0x1003), true);
  ram.setBigUint64(PAGE_TABLES + 0x1000, BigInt(PAGE_TABLES + 0x2003), true);
  for (let n = 0; n < 8; n++)
    ram.setBigUint64(PAGE_TABLES + 0x2000 + n * 8, BigInt(n * 0x200000 + 0x83), true);
  PROGRAM.forEach((byte, n) => {
    ram.setUint8(CODE + n, byte);
  });
  cpu.reset({ mode: 'long64', rip: BigInt(CODE), cr3: BigInt(PAGE_TABLES) });
  const started = performance.now();
  while (cpu.run(SLICE) === BUDGET_EXIT);
  return Math.round(cpu.instructions / (performance.now() - started) / 1000);
}

export function loopSpeed(): { readonly interpreter: number; readonly compiled: number } {
  return { interpreter: run(0), compiled: run(undefined) };
}
