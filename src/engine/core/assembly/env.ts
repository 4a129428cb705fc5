// What JavaScript provides; AssemblyScript imports it from a module of this file's name, "env".
// Physical addresses are doubles, exact below 2^53.

/** Device register at a physical address; size 1, 2 or 4. */
export declare function readMmio(physical: f64, size: i32): i32;
export declare function writeMmio(physical: f64, size: i32, value: i32): void;
export declare function readPort(port: i32, size: i32): i32;
export declare function writePort(port: i32, size: i32, value: i32): void;
/** 1 with the value in STATE_SCRATCH, or 0 for #GP. */
export declare function readMsr(index: u32): i32;
/** The value is in STATE_SCRATCH; 0 for #GP. */
export declare function writeMsr(index: u32): i32;
/** Nanoseconds since the machine started. */
export declare function tscNow(): f64;
/** The guest is about to run the instruction at a trace point; registers are in the state. 1 when RIP was changed. */
export declare function tracePoint(number: i32): i32;
