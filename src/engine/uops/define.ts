/** The registry of micro-ops. A micro-op is defined once, by `defineUop`; numbers follow from the order. */
import type { Emitter } from './emitter.ts';

export interface UopDefinition {
  readonly name: string;
  readonly number: number;
  readonly emit: (e: Emitter) => void;
}

const definitions: UopDefinition[] = [];
const byName = new Map<string, UopDefinition>();

/** Adds a micro-op; names are unique. */
export function defineUop(name: string, emit: (e: Emitter) => void): void {
  if (byName.has(name)) throw new Error(`micro-op ${name} is defined twice`);
  const definition = { name, number: definitions.length, emit };
  definitions.push(definition);
  byName.set(name, definition);
}

/** The number of a micro-op; throws when there is none of that name. */
export function uopNumber(name: string): number {
  const definition = byName.get(name);
  if (definition === undefined) throw new Error(`no micro-op ${name}`);
  return definition.number;
}

/** A property of micro-ops that follows from their names, worked out once for each. */
export function uopProperty<T>(property: (name: string) => T): (number: number) => T {
  const known: T[] = [];
  return (number) => {
    if (!(number in known)) known[number] = property(definitions[number].name);
    return known[number];
  };
}

/** All micro-ops by number. */
export function uopDefinitions(): readonly UopDefinition[] {
  return definitions;
}
