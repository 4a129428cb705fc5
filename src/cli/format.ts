/** How values look to a human. */

const UNITS = ['', 'K', 'M', 'G', 'T', 'P'] as const;

/** 268435456 → `256M`; binary multiples, at most one decimal. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = value >= 100 || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits)}${UNITS[unit]}`;
}

/** Time since `timestamp`: `12s`, `5m`, `3h`, `9d`. */
export function formatAge(timestamp: string, now: number = Date.now()): string {
  const seconds = Math.max(0, Math.floor((now - Date.parse(timestamp)) / 1000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

const CONTROL = /[\p{Cc}\p{Cf}]/gu;

/** Names and messages come from elsewhere: nothing in them may steer the terminal. */
export function printable(text: string): string {
  return text.replace(CONTROL, (char) => `\\u{${char.codePointAt(0)?.toString(16)}}`);
}

/** Likewise for text of several lines. */
export function printableLines(text: string): string {
  return text
    .split(/\r?\n/)
    .map((line) => line.split('\t').map(printable).join('\t'))
    .join('\n');
}

/** Aligned columns with a heading. Empty cells become `-`. */
export function formatTable(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [heading, ...rows.map((row) => row.map((cell) => (cell === '' ? '-' : printable(cell))))];
  const widths = heading.map((_, column) => Math.max(...cells.map((row) => (row[column] ?? '').length)));
  const lines = cells.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  return `${lines.join('\n')}\n`;
}

/** `name  value` lines. */
export function formatFields(fields: readonly (readonly [string, string])[]): string {
  const width = Math.max(...fields.map(([name]) => name.length));
  return fields
    .map(([name, value]) => `${name.padEnd(width)}  ${value === '' ? '-' : printable(value)}\n`)
    .join('');
}
