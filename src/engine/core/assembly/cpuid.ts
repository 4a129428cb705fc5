// CPUID: what this CPU has, and nothing else (Intel SDM volume 2, CPUID).
//
// It presents itself as an in-order Atom ("Saltwell", family 6 model 0x36): operating systems list that core as
// one that does not speculate and leave their mitigations off, which is true of an emulator.
import { STATE_APIC_BASE } from './layout';
import { DONE, RAX, RBX, RCX, RDX, reg, setReg } from './state';

/** Family 6, model 0x36, stepping 10. */
const SIGNATURE: u32 = 0x0003066a;

const MAX_BASIC: u32 = 0x16;
const MAX_EXTENDED: u32 = 0x80000008;
const MAX_HYPERVISOR: u32 = 0x40000010;

/** The TSC counts nanoseconds. */
const TSC_HZ: u32 = 1000000000;

// Leaf 1, ECX.
const SSE3: u32 = 1 << 0;
const SSSE3: u32 = 1 << 9;
const CX16: u32 = 1 << 13;
const PCID: u32 = 1 << 17;
const SSE41: u32 = 1 << 19;
const SSE42: u32 = 1 << 20;
const X2APIC: u32 = 1 << 21;
const POPCNT: u32 = 1 << 23;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
// Leaf 1, EDX.
const FPU: u32 = 1 << 0;
const DE: u32 = 1 << 2;
const PSE: u32 = 1 << 3;
const TSC: u32 = 1 << 4;
const MSR: u32 = 1 << 5;
const PAE: u32 = 1 << 6;
const CX8: u32 = 1 << 8;
const APIC: u32 = 1 << 9;
const SEP: u32 = 1 << 11;
const MTRR: u32 = 1 << 12;
const PGE: u32 = 1 << 13;
const CMOV: u32 = 1 << 15;
const PAT: u32 = 1 << 16;
const PSE36: u32 = 1 << 17;
const CLFLUSH: u32 = 1 << 19;
const MMX: u32 = 1 << 23;
const FXSR: u32 = 1 << 24;
const SSE: u32 = 1 << 25;
const SSE2: u32 = 1 << 26;
// Leaf 6, EAX: the APIC timer never stops.
const ARAT: u32 = 1 << 2;
// Leaf 7, EBX.
const FSGSBASE: u32 = 1 << 0;
const SMEP: u32 = 1 << 7;
/** REP MOVSB and STOSB are fast: they copy page by page. */
const ERMS: u32 = 1 << 9;
const INVPCID: u32 = 1 << 10;
const SMAP: u32 = 1 << 20;
// Leaf 0x80000001.
const LAHF: u32 = 1 << 0;
const SYSCALL: u32 = 1 << 11;
const NX: u32 = 1 << 20;
const PAGE1GB: u32 = 1 << 26;
const RDTSCP: u32 = 1 << 27;
const LM: u32 = 1 << 29;
/** Leaf 0x80000007, EDX. */
const INVARIANT_TSC: u32 = 1 << 8;
// Leaf 0x40000001, EAX: KVM features.
const KVM_CLOCKSOURCE: u32 = 1 << 0;
const KVM_NOP_IO_DELAY: u32 = 1 << 1;
const KVM_CLOCKSOURCE2: u32 = 1 << 3;
const KVM_CLOCKSOURCE_STABLE: u32 = 1 << 24;

function answer(a: u32, b: u32, c: u32, d: u32): i32 {
  setReg(RAX, a);
  setReg(RBX, b);
  setReg(RCX, c);
  setReg(RDX, d);
  return DONE;
}

function features(): i32 {
  const apicEnabled = (load<i64>(STATE_APIC_BASE) & 0x800) != 0;
  const c = SSE3 | SSSE3 | CX16 | PCID | SSE41 | SSE42 | X2APIC | POPCNT | TSC_DEADLINE | HYPERVISOR;
  const d =
    FPU |
    DE |
    PSE |
    TSC |
    MSR |
    PAE |
    CX8 |
    (apicEnabled ? APIC : 0) |
    SEP |
    MTRR |
    PGE |
    CMOV |
    PAT |
    PSE36 |
    CLFLUSH |
    MMX |
    FXSR |
    SSE |
    SSE2;
  // EBX: CLFLUSH line of 8 * 8 bytes, one logical processor, APIC id 0.
  return answer(SIGNATURE, (8 << 8) | (1 << 16), c, d);
}

/** Deterministic cache parameters: 32 KiB L1 data and code, 512 KiB L2, 8 ways, lines of 64 bytes. */
function caches(index: u32): i32 {
  const geometry: u32 = (7 << 22) | 63;
  if (index == 0) return answer((1 << 8) | (1 << 5) | 1, geometry, 63, 0);
  if (index == 1) return answer((1 << 8) | (1 << 5) | 2, geometry, 63, 0);
  if (index == 2) return answer((1 << 8) | (2 << 5) | 3, geometry, 1023, 0);
  return answer(0, 0, 0, 0);
}

/** One thread in one core in one package; x2APIC id 0. */
function topology(index: u32): i32 {
  if (index == 0) return answer(0, 1, 0x100, 0);
  if (index == 1) return answer(0, 1, 0x201, 0);
  return answer(0, 0, index, 0);
}

function basic(leaf: u32, index: u32): i32 {
  if (leaf == 0) return answer(MAX_BASIC, 0x756e6547, 0x6c65746e, 0x49656e69); // GenuineIntel
  if (leaf == 1) return features();
  if (leaf == 2) return answer(0x00ff0001, 0, 0, 0); // caches: see leaf 4
  if (leaf == 4) return caches(index);
  if (leaf == 6) return answer(ARAT, 0, 0, 0);
  if (leaf == 7)
    return index == 0 ? answer(0, FSGSBASE | SMEP | ERMS | INVPCID | SMAP, 0, 0) : answer(0, 0, 0, 0);
  if (leaf == 0xb) return topology(index);
  if (leaf == 0x15) return answer(1, 1, TSC_HZ, 0);
  if (leaf == 0x16) return answer(1000, 1000, 100, 0);
  return answer(0, 0, 0, 0);
}

function hypervisor(leaf: u32): i32 {
  if (leaf == 0x40000000) return answer(MAX_HYPERVISOR, 0x4b4d564b, 0x564b4d56, 0x4d); // KVMKVMKVM
  if (leaf == 0x40000001) {
    return answer(KVM_CLOCKSOURCE | KVM_NOP_IO_DELAY | KVM_CLOCKSOURCE2 | KVM_CLOCKSOURCE_STABLE, 0, 0, 0);
  }
  // TSC and APIC timer frequency in kHz.
  if (leaf == 0x40000010) return answer(TSC_HZ / 1000, TSC_HZ / 1000, 0, 0);
  return answer(0, 0, 0, 0);
}

function extended(leaf: u32): i32 {
  if (leaf == 0x80000000) return answer(MAX_EXTENDED, 0, 0, 0);
  if (leaf == 0x80000001) return answer(0, 0, LAHF, SYSCALL | NX | PAGE1GB | RDTSCP | LM);
  // "Umlaut Virtual CPU"
  if (leaf == 0x80000002) return answer(0x616c6d55, 0x56207475, 0x75747269, 0x43206c61);
  if (leaf == 0x80000003) return answer(0x5550, 0, 0, 0);
  if (leaf == 0x80000006) return answer(0, 0, 0x02006040, 0); // L2: 512 KiB, 8 ways, 64-byte lines
  if (leaf == 0x80000007) return answer(0, 0, 0, INVARIANT_TSC);
  if (leaf == 0x80000008) return answer(40 | (48 << 8), 0, 0, 0);
  return answer(0, 0, 0, 0);
}

/** CPUID; unknown leaves answer like the highest basic one, as Intel's do. */
export function cpuid(): i32 {
  const leaf = <u32>reg(RAX);
  const index = <u32>reg(RCX);
  if (leaf >= 0x80000000 && leaf <= MAX_EXTENDED) return extended(leaf);
  if (leaf >= 0x40000000 && leaf <= MAX_HYPERVISOR) return hypervisor(leaf);
  return basic(leaf <= MAX_BASIC ? leaf : MAX_BASIC, index);
}
