// What JavaScript provides. Physical addresses are doubles, exact below 2^53.

/** Device register at a physical address; size 1, 2 or 4. */
@external('env', 'readMmio')
export declare function readMmio(physical: f64, size: i32): i32;
@external('env', 'writeMmio')
export declare function writeMmio(physical: f64, size: i32, value: i32): void;
@external('env', 'readPort')
export declare function readPort(port: i32, size: i32): i32;
@external('env', 'writePort')
export declare function writePort(port: i32, size: i32, value: i32): void;
/** 1 with the value in STATE_SCRATCH, or 0 for #GP. */
@external('env', 'readMsr')
export declare function readMsr(index: u32): i32;
/** The value is in STATE_SCRATCH; 0 for #GP. */
@external('env', 'writeMsr')
export declare function writeMsr(index: u32): i32;
/** Nanoseconds since the machine started. */
@external('env', 'tscNow')
export declare function tscNow(): f64;
