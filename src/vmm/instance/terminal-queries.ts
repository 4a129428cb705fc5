/**
 * What programs ask terminals (ECMA-48; XTerm Control Sequences). A terminal that is shown what was printed long ago would answer what was
 * asked long ago, and the answers would be typed into whatever reads now.
 */
const QUERIES = new RegExp(
  [
    // ENQ; DECID
    String.raw`\x05|\x1bZ`,
    // DSR, where the cursor is among others; DA; DECRQM; DECREQTPARM
    String.raw`\x1b\[\??[\d;]*n`,
    String.raw`\x1b\[[>=]?[\d;]*c`,
    String.raw`\x1b\[\??[\d;]*\$p`,
    String.raw`\x1b\[[\d;]*x`,
    // States and sizes of the window; the terminal's version; the keyboard's mode
    String.raw`\x1b\[(?:1[13-689]|2[01])(?:;\d*)*t`,
    String.raw`\x1b\[>\d*q|\x1b\[\?u`,
    // Colours and the like (OSC); DECRQSS and XTGETTCAP
    String.raw`\x1b\](?:\d+;)+\?(?:\x07|\x1b\\)`,
    String.raw`\x1bP[+$]q[^\x1b]*\x1b\\`,
  ].join('|'),
  'g',
);

/** What was printed, without the questions in it. */
export function withoutQueries(printed: Uint8Array): Uint8Array {
  const text = Buffer.from(printed.buffer, printed.byteOffset, printed.length).toString('latin1');
  const rest = text.replace(QUERIES, '');
  return rest.length === text.length ? printed : Buffer.from(rest, 'latin1');
}
