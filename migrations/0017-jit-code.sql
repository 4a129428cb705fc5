-- Bytes of WebAssembly that the compiled code of a guest may have; NULL: the engine's own figure.
ALTER TABLE vms ADD COLUMN jit_code_bytes INTEGER CHECK (jit_code_bytes > 0);
