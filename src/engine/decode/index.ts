/** Decoding: one line for each family of instructions, and the block decoder. */
import './integer.ts';
import './control.ts';
import './system.ts';
import './sse.ts';
import './x87.ts';

export { BlockDecoder } from './block-decoder.ts';
export { decodeInstruction } from './decode-instruction.ts';
export { emitMark } from './mark.ts';
