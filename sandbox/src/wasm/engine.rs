//! The engine's settings, all of them: compiler and runner share them, and an artifact fits no other.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use wasmtime::{Config, Engine, OptLevel};

/// Bytes of stack that a guest may use before it is ended with the limit `stack`.
pub const STACK_BYTES_MAX: usize = 1 << 20;
/// Bytes of the stack that guest and host functions share: what the guest may use, and as much again for the host.
const FIBER_BYTES: usize = 2 * STACK_BYTES_MAX;

/// Changes when the meaning of an artifact does although wasmtime and its settings are the same.
const FORMAT: u32 = 1;

/// What a guest's running is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metering {
    /// Time alone.
    Time,
    /// Instructions and time. Everything that the engine can make deterministic is.
    Fuel,
}

/// An engine for compiling and running.
///
/// # Errors
/// The processor lacks what the compiler needs; nothing can be done about it here.
pub fn engine(metering: Metering) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES_MAX)
        .async_stack_size(FIBER_BYTES)
        .cranelift_opt_level(OptLevel::Speed)
        // The process that compiles has no threads.
        .parallel_compilation(false)
        // What is not switched on cannot be wrong. WASI preview 2 needs neither threads nor garbage collection.
        .concurrency_support(false)
        .native_unwind_info(false);
    if metering == Metering::Fuel {
        config.consume_fuel(true).cranelift_nan_canonicalization(true).relaxed_simd_deterministic(true);
    }
    Engine::new(&config)
}

/// The name under which the artifact of a module is kept: `module` is the module's own digest. Differs wherever `engine`
/// could not load it: another version, other settings, another processor.
pub fn artifact_key(engine: &Engine, module: &blake3::Hash) -> String {
    let mut settings = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut settings);
    let mut hasher = blake3::Hasher::new();
    hasher.update(module.as_bytes());
    hasher.update(&FORMAT.to_le_bytes());
    hasher.update(&settings.finish().to_le_bytes());
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_of_another_module_or_metering_have_another_name() {
        let (time, fuel) = (engine(Metering::Time).unwrap(), engine(Metering::Fuel).unwrap());
        let (one, two) = (blake3::hash(b"one"), blake3::hash(b"two"));
        assert_eq!(artifact_key(&time, &one), artifact_key(&engine(Metering::Time).unwrap(), &one));
        assert_ne!(artifact_key(&time, &one), artifact_key(&time, &two));
        assert_ne!(artifact_key(&time, &one), artifact_key(&fuel, &one));
    }
}
