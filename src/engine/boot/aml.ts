/** Assembles ACPI Machine Language: ACPI specification 6.5, chapter 20. Terms are byte arrays. */

export type Aml = readonly number[];

const ascii = (text: string): number[] => [...text].map((letter) => letter.charCodeAt(0));

/** A four-letter name segment, padded with underscores. */
const segment = (name: string): number[] => ascii(name.padEnd(4, '_'));

/** A name path: `\_SB`, `PCI0`, `\_SB.PCI0.PCNT`, … */
function path(name: string): number[] {
  const isRoot = name.startsWith('\\');
  const segments = (isRoot ? name.slice(1) : name).split('.');
  const prefix = isRoot ? [0x5c] : [];
  if (segments.length === 1) return [...prefix, ...segment(segments[0]!)];
  if (segments.length === 2) return [...prefix, 0x2e, ...segments.flatMap(segment)];
  return [...prefix, 0x2f, segments.length, ...segments.flatMap(segment)];
}

/** PkgLength: the length counts its own bytes. */
function withLength(content: Aml): number[] {
  const length = content.length;
  if (length + 1 < 0x40) return [length + 1, ...content];
  if (length + 2 < 0x1000) return [0x40 | ((length + 2) & 15), (length + 2) >>> 4, ...content];
  const total = length + 3;
  return [0x80 | (total & 15), (total >>> 4) & 0xff, total >>> 12, ...content];
}

const littleEndian = (value: number, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, i) => Math.floor(value / 2 ** (8 * i)) & 0xff);

export function integer(value: number): Aml {
  if (value === 0) return [0x00];
  if (value === 1) return [0x01];
  if (value < 0x100) return [0x0a, value];
  if (value < 0x1_0000) return [0x0b, ...littleEndian(value, 2)];
  return value < 0x1_0000_0000 ? [0x0c, ...littleEndian(value, 4)] : [0x0e, ...littleEndian(value, 8)];
}

export const string = (text: string): Aml => [0x0d, ...ascii(text), 0];

/** An EISA identifier such as PNP0A03, as the integer that it is encoded to. */
export function eisaId(id: string): Aml {
  const letter = (index: number): number => id.charCodeAt(index) - 0x40;
  const vendor = (letter(0) << 10) | (letter(1) << 5) | letter(2);
  const product = Number.parseInt(id.slice(3), 16);
  return [0x0c, vendor >>> 8, vendor & 0xff, product >>> 8, product & 0xff];
}

export const name = (target: string, value: Aml): Aml => [0x08, ...path(target), ...value];
export const scope = (target: string, ...terms: Aml[]): Aml => [
  0x10,
  ...withLength([...path(target), ...terms.flat()]),
];
export const device = (target: string, ...terms: Aml[]): Aml => [
  0x5b,
  0x82,
  ...withLength([...path(target), ...terms.flat()]),
];
/** A package of at most 255 elements. */
export const packageOf = (...elements: Aml[]): Aml => [
  0x12,
  ...withLength([elements.length, ...elements.flat()]),
];

/** An operation region in I/O space, and its dwords by name, in order. */
export const dwordRegister = (region: string, port: number, names: readonly string[]): Aml => [
  ...[0x5b, 0x80, ...path(region), 1, ...integer(port), ...integer(names.length * 4)],
  // access by dwords, no lock, writes as zeros
  ...[0x5b, 0x81],
  ...withLength([...path(region), 0x43, ...names.flatMap((field) => [...segment(field), 32])]),
];

/** A method with `count` arguments, serialized. */
export const method = (target: string, count: number, ...terms: Aml[]): Aml => [
  0x14,
  ...withLength([...path(target), count | 8, ...terms.flat()]),
];
export const local = (index: number): Aml => [0x60 + index];
/** The value of a name, or the call of a method without arguments. */
export const named = (target: string): Aml => path(target);
export const store = (value: Aml, target: Aml): Aml => [0x70, ...value, ...target];
export const and = (left: Aml, right: Aml): Aml => [0x7b, ...left, ...right, 0];
export const when = (condition: Aml, ...terms: Aml[]): Aml => [
  0xa0,
  ...withLength([...condition, ...terms.flat()]),
];
export const notify = (target: string, value: number): Aml => [0x86, ...path(target), ...integer(value)];

/** A resource template of the given descriptors, with its end tag. */
export function resources(...descriptors: Aml[]): Aml {
  const bytes = [...descriptors.flat(), 0x79, 0];
  return [0x11, ...withLength([...integer(bytes.length), ...bytes])];
}

/** I/O port descriptor (16-bit decode) of a fixed range. */
export const io = (base: number, length: number): Aml => [
  0x47,
  1,
  ...littleEndian(base, 2),
  ...littleEndian(base, 2),
  1,
  length,
];
/** IRQ descriptor: edge-triggered, active high, exclusive. */
export const irqNoFlags = (irq: number): Aml => [0x22, ...littleEndian(1 << irq, 2)];

/** Address space descriptors' resource types. */
export const SPACE = { MEMORY: 0, IO: 1, BUS: 2 } as const;
const PRODUCER_FIXED = 0x0c;

/** An address range that a bridge passes on, in the descriptor of the given width. */
export function window(type: number, bytes: 2 | 4 | 8, first: number, last: number): Aml {
  const tag = { 2: 0x88, 4: 0x87, 8: 0x8a }[bytes];
  const flags = type === SPACE.MEMORY ? 0x01 : type === SPACE.IO ? 0x03 : 0;
  const fields = [0, first, last, 0, last - first + 1].flatMap((value) => littleEndian(value, bytes));
  return [tag, ...littleEndian(3 + fields.length, 2), type, PRODUCER_FIXED, flags, ...fields];
}
