/**
 * Generates the interpreter: one WebAssembly function that dispatches micro-ops by a `br_table` in a loop.
 *
 * run(): i32 executes from STATE.RIP until something ends the slice and returns STATE.EXIT_REASON.
 */
import { CPU, STATE } from '../layout.ts';
import { uopDefinitions } from '../uops/index.ts';
import { type CoreFunction, scratchOf } from '../uops/memory-emitter.ts';
import { FunctionWriter, type Label } from '../wasm/function-writer.ts';
import { exportedFunctions } from '../wasm/module-reader.ts';
import { REGION_SIGNATURE } from '../region-call.ts';
import { importOnUse, ModuleWriter } from '../wasm/module-writer.ts';
import { InterpEmitter } from './interp-emitter.ts';
import { allSuperinstructions } from './superinstructions.ts';

/**
 * Bytes of the interpreter's module.
 * @param core bytes of the core runtime, whose exports it imports
 * @param tlbEntries what the core is initialised with
 */
export function buildInterpreter(core: Uint8Array, tlbEntries: number): Uint8Array {
  const module = new ModuleWriter();
  module.importMemory('env', 'memory', 65536);
  const coreFunction = importOnUse(module, exportedFunctions(core));
  module.importTable('env', 'regions');
  const regionType = module.type(REGION_SIGNATURE);
  module.addFunction('run', writeRun(coreFunction, tlbEntries, regionType));
  return module.finish();
}

function writeRun(coreFunction: CoreFunction, tlbEntries: number, regionType: number): FunctionWriter {
  const w = new FunctionWriter([], ['i32']);
  const pc = w.local('i32');
  const page = w.local('i64');
  const icount = w.local('i64');
  const scratch = scratchOf(w);
  w.i32(0);
  w.memory('i64.load', CPU + STATE.ICOUNT);
  w.set(icount);
  const exit = w.block();
  const lookup = w.loop();
  const locateFrame = {
    regionType,
    pc,
    page,
    icount,
    exit,
    lookup,
    next: 0,
    jump: 0,
    fault: 0,
    complete: 0,
  };
  new InterpEmitter(w, locateFrame, scratch, coreFunction, tlbEntries).emitLookup();
  const next = w.loop();
  const fault = w.block();
  const complete = w.block();
  const jump = w.block();
  const frame = { ...locateFrame, next, jump, fault, complete };
  const e = new InterpEmitter(w, frame, scratch, coreFunction, tlbEntries);
  writeCases(w, e, next);
  w.end(); // jump
  e.emitJump();
  w.end(); // complete
  e.emitCompleteExit();
  w.end(); // fault
  e.emitFaultExit();
  w.end(); // next
  w.end(); // lookup
  w.end(); // exit
  w.i32(0);
  w.get(icount);
  w.memory('i64.store', CPU + STATE.ICOUNT);
  w.i32(0);
  w.memory('i32.load', CPU + STATE.EXIT_REASON);
  return w;
}

/** The cases, innermost block first: block n's end is where micro-op n's code begins. */
function writeCases(w: FunctionWriter, e: InterpEmitter, next: Label): void {
  const cases = [...uopDefinitions(), ...allSuperinstructions()];
  const labels: Label[] = [];
  for (let i = cases.length - 1; i >= 0; i--) labels[i] = w.block();
  e.dispatch(labels);
  for (const { emit } of cases) {
    w.end();
    e.begin();
    emit(e);
    w.br(next);
  }
}
