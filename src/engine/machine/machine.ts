/** A virtual machine: linear memory, CPU, board and devices, its life from boot to end. */
import { randomFillSync } from 'node:crypto';
import { AppError, type ErrorCode } from '../../contracts/errors.ts';
import type { MachineEnd } from '../../contracts/ports.ts';
import type { CharPort } from '../backends.ts';
import { writeAcpiTables } from '../boot/acpi.ts';
import { BootError } from '../boot/errors.ts';
import { loadKernel } from '../boot/load-kernel.ts';
import type { Cpu, CpuHooks, JitStats } from '../cpu.ts';
import { FW_CFG_KEY } from '../devices/isa/fw-cfg.ts';
import {
  createPciBus,
  INTX_ROUTES,
  PCI_HOTPLUG,
  PCI_SLOTS,
  PCI_WINDOW,
  type PciBus,
  PciHotplug,
} from '../devices/pci/index.ts';
import {
  type BlockHandle,
  type BlockOptions,
  createVirtioDevices,
  type NetHandle,
  type NetOptions,
  type VirtioDevices,
  type VirtioInstance,
  type VirtioOptions,
  type P9Counters,
  type P9Options,
} from '../devices/virtio/index.ts';
import type { MachineInspection, MachineIntervention } from '../inspection.ts';
import { CPU, type MemoryMap, memoryMap, STATE } from '../layout.ts';
import { Mainboard } from './board.ts';
import type { MachineEvent } from './bus.ts';
import type { TimeSource } from './clock.ts';
import { collectGarbage } from '../v8.ts';
import { GuestMemory } from './guest-memory.ts';
import { type LegacyDevices, plugLegacyDevices } from './legacy-devices.ts';
import { interventionIn, viewOf } from './machine-view.ts';
import { RunLoop } from './run-loop.ts';
import { StateRegisters } from './state-registers.ts';

/** Room for decoded micro-ops at most; `UopArena` opens as much of it as the guest needs. */
const UOP_ARENA_BYTES = 64 << 20;
const PAGE_BYTES = 65_536;
/** A linear memory ends at 4 GiB; the engine's own part of it needs the rest. */
export const MEMORY_BYTES_MAX = 3840 * 2 ** 20;
const CPUS = 1;

export type CpuFactory = (memory: WebAssembly.Memory, map: MemoryMap, hooks: CpuHooks) => Cpu;

export interface MachineOptions {
  /** A multiple of 4096. */
  readonly memoryBytes: number;
  /** Reads the kernel, for each boot anew: nobody keeps it. */
  readonly kernel: () => Uint8Array;
  readonly initrd?: (() => Uint8Array) | undefined;
  readonly commandLine: string;
  /** ttyS0… */
  readonly serials: readonly CharPort[];
  readonly virtio: Omit<VirtioOptions, 'balloon'>;
  /** The guest gives up what is in these bytes, whole pages; they may read as anything afterwards. */
  readonly releaseMemory?: ((bytes: Uint8Array) => void) | undefined;
  /** I/O port of an isa-debug-exit device. */
  readonly debugExitPort?: number | undefined;
  readonly createCpu: CpuFactory;
  readonly time?: TimeSource;
  /** The guest reset itself or was reset, and boots again. */
  readonly onReboot?: (() => void) | undefined;
  /** The guest's kernel has panicked, and said so to the pvpanic device; the machine runs on. */
  readonly onPanic?: (() => void) | undefined;
  /** The guest has not reset its watchdog in time; the machine runs on. */
  readonly onHang?: (() => void) | undefined;
}

export class Machine {
  /** Resolves when the machine has ended; never rejects. */
  readonly ended: Promise<MachineEnd>;
  readonly virtio: VirtioDevices;
  readonly #options: MachineOptions;
  readonly #board: Mainboard;
  readonly #cpu: Cpu;
  readonly #pci: PciBus;
  readonly #hotplug: PciHotplug;
  /** Slots that the guest was asked to let go of. */
  readonly #removals = new Map<number, PromiseWithResolvers<void>>();
  readonly #legacy: LegacyDevices;
  readonly #loop: RunLoop;
  readonly #state: DataView;
  readonly #settle: (end: MachineEnd) => void;
  #onTracePoint: ((number: number) => boolean) | undefined;
  #isEnded = false;
  #isStopped = false;
  #isResetting = false;

  /**
   * Makes the machine; `start` boots it.
   * @throws RangeError when the host cannot reserve the memory, or the debug-exit port is taken
   */
  constructor(options: MachineOptions) {
    this.#options = options;
    const { promise, resolve } = Promise.withResolvers<MachineEnd>();
    this.ended = promise;
    this.#settle = resolve;
    const map = memoryMap(options.memoryBytes, UOP_ARENA_BYTES);
    const pages = map.end / PAGE_BYTES;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.#state = new DataView(memory.buffer, CPU, STATE.SIZE);
    this.#board = new Mainboard({
      memory: new GuestMemory(memory, map, (offset, length) => this.#cpu.invalidate(offset, length)),
      sink: {
        changed: () => this.#interruptsChanged(),
        nmi: () => this.#nmi(),
        cpu: new StateRegisters(this.#state),
      },
      onEvent: (event) => this.#onEvent(event),
      entropy: (into) => void randomFillSync(into),
      ...(options.time === undefined ? {} : { time: options.time }),
    });
    const tracePoint = (number: number): boolean => this.#onTracePoint?.(number) ?? false;
    this.#cpu = options.createCpu(memory, map, { ...this.#board.cpuHooks, tracePoint });
    this.#legacy = plugLegacyDevices(this.#board, options);
    this.#pci = createPciBus(this.#board);
    this.#hotplug = new PciHotplug(this.#board, {
      raise: () => this.#legacy.acpi.raiseGpe(PCI_HOTPLUG.GPE),
      ejected: (slot) => this.#ejected(slot),
    });
    this.virtio = createVirtioDevices(this.#board, this.#pci, {
      ...options.virtio,
      balloon: { release: (address, length) => this.#release(address, length) },
    });
    this.#loop = new RunLoop(this.#cpu, this.#board.clock, this.#board.interrupts, {
      sliceEnded: () => this.#flushSerials(),
      shutdown: () => this.#end({ reason: 'triple-fault', detail: this.#cpu.dump() }),
      failed: (error) => this.#fail(error),
    });
    this.#fillFwCfg();
  }

  /** Loads the kernel and begins to run, unless it has been halted. Throws BootError and what reading throws, after which the machine is of no use. */
  start(): void {
    if (this.#isEnded) return;
    this.#boot();
    if (!this.#isStopped) this.#loop.start();
  }

  /** Retired guest instructions. */
  get instructions(): number {
    return this.#cpu.instructions;
  }

  get jitStats(): JitStats {
    return this.#cpu.jitStats;
  }

  /** What can be seen of it from outside; to be looked at between two turns of the event loop. */
  get view(): MachineInspection {
    return viewOf(this.#board.memory, this.#state, () => this.#board.clock.nowNs());
  }

  /** What can be changed of it, at a trace point alone. */
  get intervention(): MachineIntervention {
    return interventionIn(this.#board.memory, this.#state);
  }

  /**
   * Has `onPoint` called whenever the guest is about to run one of the instructions at these RAM offsets, with its place in the list;
   * until it boots again; true when it has sent the CPU elsewhere. To be called between two turns of the event loop.
   */
  trace(ramOffsets: readonly number[], onPoint: (number: number) => boolean): void {
    this.#onTracePoint = onPoint;
    this.#cpu.setTracePoints(ramOffsets);
  }

  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** Freezes the CPU and the guest's time. */
  stop(): void {
    this.#isStopped = true;
    this.#loop.stop();
    this.#board.clock.stop();
  }

  go(): void {
    if (!this.#isStopped) return;
    this.#isStopped = false;
    this.#board.clock.resume();
    if (!this.#isEnded && !this.#isResetting) this.#loop.start();
  }

  /** Ends the machine at once. */
  halt(): void {
    this.#end({ reason: 'halt' });
  }

  /** Resets the machine at once and boots again; a stopped one runs again. */
  reboot(): void {
    this.go();
    this.#reset();
  }

  ctrlAltDelete(): void {
    this.#legacy.keyboard.ctrlAltDelete();
    this.#loop.wake();
  }

  /** Alt, SysRq and a letter on the keyboard; false where there is no such key. */
  sysRqKeys(letter: string): boolean {
    const isThere = this.#legacy.keyboard.sysRq(letter);
    this.#loop.wake();
    return isThere;
  }

  powerButton(): void {
    this.#legacy.acpi.pressPowerButton();
    this.#loop.wake();
  }

  /** Asks the guest to make do with `bytes` of its memory, at most all. RangeError beyond. */
  setMemory(bytes: number): void {
    const { ramBytes } = this.#board.memory;
    if (bytes > ramBytes) throw new RangeError(`the machine has ${ramBytes} bytes of memory`);
    this.virtio.balloon?.handle.setTarget(ramBytes - bytes);
    this.#loop.wake();
  }

  /** Plugs a disk in and tells the guest. RangeError when no slot is free. */
  plugDisk(options: BlockOptions): VirtioInstance<BlockHandle> {
    return this.#added(this.virtio.plugDisk(options));
  }

  /** Plugs a network card in and tells the guest. RangeError when no slot is free. */
  plugNic(options: NetOptions): VirtioInstance<NetHandle> {
    return this.#added(this.virtio.plugNic(options));
  }

  /** Plugs a folder of the host in and tells the guest. RangeError when no slot is free. */
  plugShare(options: P9Options): VirtioInstance<{ readonly counters: P9Counters }> {
    return this.#added(this.virtio.plugShare(options));
  }

  /**
   * Asks the guest to let go of the device in a slot. Resolves when it has and the device is out; that can be never, and
   * is at the next reset at the latest. Asking again reminds the guest.
   */
  unplug(slot: number): Promise<void> {
    const removal = this.#removals.get(slot) ?? Promise.withResolvers<void>();
    this.#removals.set(slot, removal);
    this.#hotplug.remove(slot);
    this.#loop.wake();
    return removal.promise;
  }

  /** A break on ttyS0, then the letter: Linux's SysRq over a serial console. */
  sysRq(letter: string): void {
    this.#legacy.serials[0]!.sendBreak(new TextEncoder().encode(letter));
    this.#loop.wake();
  }

  /** What is not the guest's RAM is left alone. */
  #release(address: number, length: number): void {
    const { memory } = this.#board;
    if (memory.ramOffset(address, length) < 0) return;
    this.#options.releaseMemory?.(memory.writable(address, length));
    memory.written(address, length);
  }

  #added<Handle>(instance: VirtioInstance<Handle>): VirtioInstance<Handle> {
    this.#hotplug.added(instance.slot);
    this.#loop.wake();
    return instance;
  }

  #ejected(slot: number): void {
    const removal = this.#removals.get(slot);
    this.#removals.delete(slot);
    void this.virtio.unplug(slot).then(() => removal?.resolve());
  }

  #boot(): void {
    const { memory } = this.#board;
    const rsdp = writeAcpiTables(memory, {
      cpus: CPUS,
      pciRoutes: INTX_ROUTES.filter(({ slot }) => slot > 0),
      pciSlots: Array.from({ length: PCI_SLOTS - 1 }, (_, index) => index + 1),
      pciWindow: { first: PCI_WINDOW.BASE, last: PCI_WINDOW.END - 1 },
    });
    const { kernel, initrd, commandLine } = this.#options;
    const entropy = (into: Uint8Array): void => this.#board.entropy(into);
    const files = { kernel: kernel(), initrd: initrd?.() };
    this.#cpu.reset(loadKernel(memory, { ...files, commandLine, rsdp, entropy }));
    this.#interruptsChanged();
    // What was unpacked on the way is several times as large as the kernel.
    setImmediate(collectGarbage);
  }

  #fillFwCfg(): void {
    const { fwCfg } = this.#legacy;
    const { kernel, initrd, commandLine, memoryBytes } = this.#options;
    const zeroTerminated = new TextEncoder().encode(`${commandLine}\0`);
    fwCfg.add16(FW_CFG_KEY.CPUS, CPUS);
    fwCfg.add16(FW_CFG_KEY.CPUS_MAX, CPUS);
    fwCfg.add64(FW_CFG_KEY.RAM_SIZE, memoryBytes);
    fwCfg.addContent(FW_CFG_KEY.KERNEL_SIZE, FW_CFG_KEY.KERNEL_DATA, kernel);
    fwCfg.addContent(FW_CFG_KEY.INITRD_SIZE, FW_CFG_KEY.INITRD_DATA, initrd ?? (() => new Uint8Array(0)));
    fwCfg.add32(FW_CFG_KEY.COMMAND_LINE_SIZE, zeroTerminated.length);
    fwCfg.add(FW_CFG_KEY.COMMAND_LINE_DATA, zeroTerminated);
  }

  #interruptsChanged(): void {
    const { pending } = this.#board.interrupts;
    this.#cpu.setInterruptPending(pending);
    if (pending) this.#loop.wake();
  }

  #nmi(): void {
    this.#state.setUint32(STATE.NMI_PENDING, 1, true);
    this.#cpu.interruptRun();
    this.#loop.wake();
  }

  #onEvent(event: MachineEvent): void {
    if (event.kind === 'reset') this.#reset();
    else if (event.kind === 'power-off') this.#end({ reason: 'power-off' });
    else if (event.kind === 'panicked') setImmediate(() => this.#told(this.#options.onPanic));
    else if (event.kind === 'hung') setImmediate(() => this.#told(this.#options.onHang));
    else this.#end({ reason: 'debug-exit', status: event.status });
  }

  /** Stops the CPU now; the rest follows when no device is in the middle of a call. */
  #reset(): void {
    if (this.#isEnded || this.#isResetting) return;
    this.#isResetting = true;
    this.#loop.stop();
    setImmediate(() => void this.#bootAgain());
  }

  async #bootAgain(): Promise<void> {
    try {
      for (const device of [...this.#legacy.all, this.#hotplug, this.#pci]) device.reset();
      this.#board.reset();
      // Requests that the guest left behind must not write into the new kernel.
      await this.virtio.settled();
      if (this.#isEnded) return;
      this.#boot();
      this.#isResetting = false;
      this.#options.onReboot?.();
      // the listener may have ended the machine
      if (!this.#isEnded && !this.#isStopped) this.#loop.start();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** What the guest has printed before is passed on before. */
  #told(tell: (() => void) | undefined): void {
    this.#flushSerials();
    tell?.();
  }

  #flushSerials(): void {
    for (const serial of this.#legacy.serials) serial.flush();
  }

  #fail(error: unknown): void {
    const isKnown = error instanceof BootError || error instanceof AppError;
    const code: ErrorCode = isKnown ? error.code : 'machine_failed';
    const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#end({ reason: 'error', code, detail });
  }

  #end(end: MachineEnd): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#loop.stop();
    // The device that raised the event may be in the middle of a call from the CPU.
    setImmediate(() => {
      this.#flushSerials();
      this.#pci.close();
      this.#settle(end);
    });
  }
}
