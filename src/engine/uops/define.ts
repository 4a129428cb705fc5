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

/** What a name's template leaves open: a width, a family. */
type Part = string | number;

/** What is known of names that begin alike. */
class Names {
  /** The micro-op whose name ends here, once it has been looked up. */
  number: number | undefined;
  readonly #longer = new Map<Part | TemplateStringsArray, Names>();

  with(part: Part | TemplateStringsArray): Names {
    const known = this.#longer.get(part);
    if (known !== undefined) return known;
    const longer = new Names();
    this.#longer.set(part, longer);
    return longer;
  }
}
const names = new Names();

/**
 * The number of a micro-op by the template of its name: uop`mov${width}.rm`. The name is only put together when the
 * place in the source meets these parts for the first time.
 */
export function uop(template: TemplateStringsArray, ...parts: Part[]): number {
  let known = names.with(template);
  for (const part of parts) known = known.with(part);
  known.number ??= uopNumber(String.raw({ raw: template }, ...parts));
  return known.number;
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
