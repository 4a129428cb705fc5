/** The command line of linux.uml (arch/um/kernel/um_arch.c, arch/um/drivers): each word is an option of UML's or goes to the guest. */
import { type Line, parseLine } from './channels.ts';
import { type Eth, parseEth } from './eth.ts';
import { parseVector, type Vector } from './vector.ts';
import { type Hostfs, parseHostfs } from './hostfs.ts';
import { parseUbd, type Ubd, ubdUnit } from './ubd.ts';
import { wrong } from './wrong.ts';

const CON_MAX = 16;
const SSL_MAX = 64;

export interface UmlCommandLine {
  /** By unit, in order. */
  readonly ubds: ReadonlyMap<number, Ubd>;
  /** By number: con0, con1, … */
  readonly cons: ReadonlyMap<number, Line | undefined>;
  readonly ssls: ReadonlyMap<number, Line | undefined>;
  /** By unit, in order. */
  readonly eths: ReadonlyMap<number, Eth>;
  readonly memoryBytes: number | undefined;
  readonly umid: string | undefined;
  readonly umlDir: string | undefined;
  /** Of `mconsole=notify:PATH`. */
  readonly notifyPath: string | undefined;
  readonly initrd: string | undefined;
  /** Of `tty_log_fd=N`: the descriptor that what is on all lines is logged to. */
  readonly ttyLogFd: number | undefined;
  /** A folder that the guest can mount. */
  readonly hostfs: Hostfs | undefined;
  /** Of `hppfs=FOLDER`: a folder as hppfs has it. */
  readonly hppfs: string | undefined;
  /** Of `xterm=PROGRAM,TITLE SWITCH,EXEC SWITCH`. */
  readonly xterm: Xterm | undefined;
  /** A reboot ends the run. */
  readonly noReboot: boolean;
  /** Words for the guest's kernel and init, `root=` in the names of virtio disks. */
  readonly guest: readonly string[];
  /** What was read and has no effect here. */
  readonly warnings: readonly string[];
}

export interface Xterm {
  readonly program: string;
  readonly titleSwitch: string;
  readonly execSwitch: string;
}

/** Options of UML's that a machine with PC devices has nothing for. */
const UNSUPPORTED = [
  'iomem=',
  'dtb=',
  'dsp=',
  'mixer=',
  'virtio_uml.device=',
  'time-travel',
  'tty_log_dir=',
  'ncpus=',
  'jail',
  'honeypot',
] as const;
/** Taken as UML takes them, without effect: there is no host kernel's ptrace. */
const WITHOUT_EFFECT = ['nosysemu', 'skas0', 'mode=skas0', 'fake_ide', 'ssl-non-raw'] as const;

interface Draft {
  readonly ubds: Map<number, Ubd>;
  readonly cons: Map<number, Line | undefined>;
  readonly ssls: Map<number, Line | undefined>;
  readonly defaults: Map<'con' | 'ssl', Line | undefined>;
  readonly eths: Map<number, Eth>;
  readonly values: Map<string, string>;
  readonly guest: string[];
  readonly warnings: string[];
  root: string | undefined;
  /** `ubd=sync` */
  synchronous: boolean;
}

const VALUES = ['mem', 'umid', 'uml_dir', 'initrd', 'xterm', 'hostfs', 'hppfs', 'tty_log_fd'] as const;

/** Throws AppError `invalid_input` with the word at fault. */
export function parseCommandLine(words: readonly string[]): UmlCommandLine {
  const draft: Draft = {
    ubds: new Map(),
    cons: new Map(),
    ssls: new Map(),
    defaults: new Map(),
    eths: new Map(),
    values: new Map(),
    guest: [],
    warnings: [],
    root: undefined,
    synchronous: false,
  };
  for (const word of words) take(draft, word);
  const { ubds, values, guest } = draft;
  const all = [...ubds].map(([unit, ubd]): [number, Ubd] => [
    unit,
    { ...ubd, synchronous: ubd.synchronous || draft.synchronous },
  ]);
  const sorted = new Map(all.sort(([a], [b]) => a - b));
  if (draft.root !== undefined) guest.push(`root=${rootDevice(draft.root, sorted)}`);
  else if (sorted.has(0)) guest.push(`root=${rootDevice('98:0', sorted)}`);
  return {
    ubds: sorted,
    cons: withDefault(draft.cons, CON_MAX, draft.defaults, 'con'),
    ssls: withDefault(draft.ssls, SSL_MAX, draft.defaults, 'ssl'),
    eths: new Map([...draft.eths].sort(([a], [b]) => a - b)),
    memoryBytes: values.has('mem') ? memory(values.get('mem')!) : undefined,
    umid: values.get('umid'),
    umlDir: values.get('uml_dir'),
    notifyPath: values.get('notify'),
    initrd: values.get('initrd'),
    ttyLogFd: values.has('tty_log_fd') ? descriptor(values.get('tty_log_fd')!) : undefined,
    hostfs: values.has('hostfs') ? parseHostfs(values.get('hostfs')!) : undefined,
    hppfs: values.get('hppfs'),
    xterm: values.has('xterm') ? xtermOf(values.get('xterm')!) : undefined,
    noReboot: values.has('noreboot'),
    guest,
    warnings: draft.warnings,
  };
}

function descriptor(value: string): number {
  if (/^\d{1,9}$/.test(value)) return Number(value);
  throw wrong(
    `tty_log_fd=${value}`,
    'is no descriptor',
    'write tty_log_fd=3, and open it as in: umlaut linux ... 3>FILE',
  );
}

function take(draft: Draft, word: string): void {
  const equals = word.indexOf('=');
  const key = equals < 0 ? word : word.slice(0, equals);
  const value = equals < 0 ? '' : word.slice(equals + 1);
  const named = VALUES.find((name) => name === key);
  if (UNSUPPORTED.some((option) => word === option || (option.endsWith('=') && word.startsWith(option)))) {
    throw wrong(word, 'is an option of UML that this machine does not have', 'leave it out');
  }
  if (WITHOUT_EFFECT.some((option) => word === option || (option.endsWith('=') && word.startsWith(option)))) {
    draft.warnings.push(`${word} has no effect here`);
  } else if (named !== undefined && equals >= 0) draft.values.set(named, value);
  else if (word.startsWith('mconsole=notify:'))
    draft.values.set('notify', word.slice('mconsole=notify:'.length));
  else if (word === 'noreboot') draft.values.set('noreboot', '');
  else if (key === 'root' && equals >= 0) draft.root = value;
  else if (word.startsWith('ubd')) takeUbd(draft, word, key, value, equals);
  else if (/^vec\d/.test(word)) takeVector(draft, word);
  else if (/^eth\d/.test(word)) takeEth(draft, word, key, value, equals);
  else if (/^(con|ssl)\d*=/.test(word)) takeLine(draft, word, key, value);
  else draft.guest.push(word);
}

function takeUbd(draft: Draft, word: string, key: string, value: string, equals: number): void {
  // `ubd=sync` and, in newer kernels, any other word without a unit.
  if (key === 'ubd') {
    if (value === 'sync') draft.synchronous = true;
    else draft.warnings.push(`${word} has no effect here`);
    return;
  }
  if (equals < 0) throw wrong(word, "lacks its '='", 'write ubd0=FILE or ubd0=COW,BACKING');
  const { unit, ubd } = parseUbd(word, key.slice('ubd'.length), value);
  if (draft.ubds.has(unit))
    throw wrong(word, 'sets a device that is already configured', 'give each unit once');
  if (ubd.unlocked && ubd.backing !== undefined)
    draft.warnings.push(`the flag c of ${word} has no effect here: a COW file has one writer`);
  draft.ubds.set(unit, ubd);
}

function takeEth(draft: Draft, word: string, key: string, value: string, equals: number): void {
  if (equals < 0) throw wrong(word, "lacks its '='", 'write eth0=daemon or another transport');
  addEth(draft, word, parseEth(word, key.slice('eth'.length), value));
}

/** The guest has it as a card like any other. */
function takeVector(draft: Draft, word: string): void {
  addEth(draft, word, parseVector(word));
}

function addEth(draft: Draft, word: string, { unit, eth }: Vector): void {
  if (draft.eths.has(unit))
    throw wrong(word, 'sets a device that is already configured', 'give each unit once');
  draft.warnings.push(...eth.warnings);
  draft.eths.set(unit, eth);
}

/** As UML, all three or nothing. */
function xtermOf(text: string): Xterm {
  const [program = '', titleSwitch = '', execSwitch = '', ...rest] = text.split(',');
  if (program !== '' && titleSwitch !== '' && execSwitch !== '' && rest.length === 0)
    return { program, titleSwitch, execSwitch };
  throw wrong(
    `xterm=${text}`,
    'lacks a part',
    'write xterm=PROGRAM,TITLE SWITCH,EXEC SWITCH: xterm=xterm,-T,-e',
  );
}

function takeLine(draft: Draft, word: string, key: string, value: string): void {
  const driver = key.startsWith('con') ? 'con' : 'ssl';
  const line = parseLine(word, value);
  const digits = key.slice(driver.length);
  // The kernel's own: UML would not take console=, and neither is it a line here.
  if (digits === '') {
    draft.defaults.set(driver, line);
    return;
  }
  const number = Number(digits);
  const most = driver === 'con' ? CON_MAX : SSL_MAX;
  if (number >= most)
    throw wrong(word, 'has a device number out of range', `use ${driver}0 to ${driver}${most - 1}`);
  (driver === 'con' ? draft.cons : draft.ssls).set(number, line);
}

/** `con=` and `ssl=` hold for the lines that are not named. */
function withDefault(
  lines: Map<number, Line | undefined>,
  count: number,
  defaults: Draft['defaults'],
  driver: 'con' | 'ssl',
): ReadonlyMap<number, Line | undefined> {
  if (!defaults.has(driver)) return lines;
  const all = new Map(lines);
  // con0 has a default of its own, the terminal.
  for (let number = driver === 'con' ? 1 : 0; number < count; number++) {
    if (!all.has(number)) all.set(number, defaults.get(driver));
  }
  return all;
}

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 };

function memory(text: string): number {
  const parsed = /^(\d{1,12})([KMG]?)$/i.exec(text);
  if (parsed === null) throw wrong(`mem=${text}`, 'is no size', 'write mem=256M');
  return Number(parsed[1]) * UNITS[parsed[2]!.toUpperCase()]!;
}

const UBD_NAME = /^\/dev\/ubd\/?([a-p]|\d{1,2})(\d*)$/;
const UBD_NUMBER = /^98:(\d{1,3})$|^62([0-9a-f]{2})$/i;
/** Minor numbers of a disk: itself and its partitions. */
const MINORS = 16;

/** `/dev/ubda1`, `/dev/ubd0`, `98:16`, `6210` → the name of the virtio disk; other devices as they are. */
export function rootDevice(root: string, ubds: ReadonlyMap<number, Ubd>): string {
  const name = UBD_NAME.exec(root);
  if (name !== null) return virtioName(root, ubdUnit(name[1]!), name[2]!, ubds);
  const number = UBD_NUMBER.exec(root);
  if (number === null) return root;
  const minor = number[1] === undefined ? Number.parseInt(number[2]!, 16) : Number(number[1]);
  const partition = minor % MINORS;
  return virtioName(root, Math.floor(minor / MINORS), partition === 0 ? '' : String(partition), ubds);
}

/** Guests number virtio disks without gaps. */
function virtioName(root: string, unit: number, partition: string, ubds: ReadonlyMap<number, Ubd>): string {
  const index = [...ubds.keys()].indexOf(unit);
  if (index < 0) throw wrong(`root=${root}`, 'names a disk that is not configured', `add ubd${unit}=FILE`);
  return `/dev/vd${String.fromCharCode('a'.charCodeAt(0) + index)}${partition}`;
}
