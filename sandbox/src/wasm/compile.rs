//! A module becomes machine code. Reads hostile bytes: call it in a cage that holds nothing else.

use wasmtime::Engine;

/// The largest module, in bytes. A debug build of a large program has some tens of megabytes.
pub const MODULE_BYTES_MAX: u64 = 128 << 20;
/// The largest artifact, in bytes.
pub const ARTIFACT_BYTES_MAX: u64 = 1 << 30;

/// What kind of WebAssembly some bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A core module: WASI preview 1.
    Module,
    /// A component: WASI preview 2.
    Component,
}

/// Why bytes do not become machine code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// They do not start like WebAssembly: the file is another one than was meant.
    #[error("it is neither a WebAssembly module nor a component")]
    NotWasm,
    /// They are invalid, or use what this engine does not offer.
    #[error("{0}")]
    Invalid(String),
}

/// The kind that the first eight bytes tell; `None` for bytes that are not WebAssembly.
///
/// Source: the core specification's `magic` and `version`; the component model's `layer` field after them.
pub fn kind(bytes: &[u8]) -> Option<Kind> {
    match bytes.get(..8)? {
        [0, b'a', b's', b'm', 1, 0, 0, 0] => Some(Kind::Module),
        [0, b'a', b's', b'm', _, _, 1, 0] => Some(Kind::Component),
        _ => None,
    }
}

/// The machine code of `bytes`, to be loaded by an engine of the same settings.
///
/// # Errors
/// [`CompileError`]: the module is at fault.
pub fn compile(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
    let compiled = match kind(bytes) {
        Some(Kind::Module) => engine.precompile_module(bytes),
        Some(Kind::Component) => engine.precompile_component(bytes),
        None => return Err(CompileError::NotWasm),
    };
    compiled.map_err(|error| CompileError::Invalid(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wasm::{Metering, engine};

    #[test]
    fn the_kind_is_told_by_the_first_bytes() {
        assert_eq!(kind(&wat::parse_str("(module)").unwrap()), Some(Kind::Module));
        assert_eq!(kind(&wat::parse_str("(component)").unwrap()), Some(Kind::Component));
        for other in [&b""[..], b"\x7fELF\x02\x01\x01\x00", b"\0asm", b"\0asm\x02\0\0\0", b"(module)"] {
            assert_eq!(kind(other), None, "{other:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_module_is_said() {
        let engine = engine(Metering::Time).unwrap();
        assert!(matches!(compile(&engine, b"#!/bin/sh\n"), Err(CompileError::NotWasm)));
        let mut truncated = wat::parse_str("(module (func (export \"_start\")))").unwrap();
        truncated.truncate(truncated.len() - 2);
        let error = compile(&engine, &truncated).unwrap_err().to_string();
        assert!(error.contains("unexpected end"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_compiler_panic(tail in proptest::collection::vec(any::<u8>(), 0..64)) {
            let engine = engine(Metering::Time).unwrap();
            for head in [b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0"] {
                let _ = compile(&engine, &[&head[..], &tail].concat());
            }
        }
    }
}
