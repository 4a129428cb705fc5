/** Where a text stops being JSON (RFC 8259). JSON.parse tells it only for some mistakes. */

const SPACE = /[ \t\n\r]*/y;
/** A string without its closing quote: control characters (but not DEL and C1) end it early. */
const STRING_START = /"(?:[^"\\[\p{Cc}--[\x7f-\x9f]]]|\\(?:["\\\/bfnrt]|u[0-9a-fA-F]{4}))*/vy;
const STRING = new RegExp(`${STRING_START.source}"`, 'vy');
const SCALAR = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+\-]?\d+)?|true|false|null/vy;

type Expected = 'value' | 'value or ]' | 'key' | 'key or }' | 'colon' | 'comma or close' | 'end';

/** Index of the first character that cannot stand there; the text's length when it ends too early. */
export function jsonErrorPosition(text: string): number {
  const open: ('[' | '{')[] = [];
  let at = 0;
  let expected: Expected = 'value';
  const after = (): Expected => (open.length === 0 ? 'end' : 'comma or close');
  const take = (pattern: RegExp): boolean => {
    pattern.lastIndex = at;
    if (!pattern.test(text)) return false;
    at = pattern.lastIndex;
    return true;
  };
  for (;;) {
    take(SPACE);
    const char = text[at];
    if (char === undefined || expected === 'end') return at;
    if (expected === 'colon') {
      if (char !== ':') return at;
      at++;
      expected = 'value';
    } else if (expected === 'comma or close') {
      const inside = open.at(-1);
      if (char === (inside === '[' ? ']' : '}')) {
        open.pop();
        expected = after();
      } else if (char === ',') expected = inside === '[' ? 'value' : 'key';
      else return at;
      at++;
    } else if ((expected === 'value or ]' && char === ']') || (expected === 'key or }' && char === '}')) {
      open.pop();
      at++;
      expected = after();
    } else if (expected === 'key' || expected === 'key or }') {
      if (!take(STRING)) return stringEnd(text, at);
      expected = 'colon';
    } else if (char === '[' || char === '{') {
      open.push(char);
      at++;
      expected = char === '[' ? 'value or ]' : 'key or }';
    } else if (take(STRING) || take(SCALAR)) expected = after();
    else return stringEnd(text, at);
  }
}

/** A broken string is broken where it stops being one; everything else where it begins. */
function stringEnd(text: string, at: number): number {
  STRING_START.lastIndex = at;
  return STRING_START.test(text) ? STRING_START.lastIndex : at;
}
