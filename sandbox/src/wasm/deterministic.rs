//! Clocks and random numbers that are the same every time, for guests whose result is to depend on their input alone.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::TryRng;
use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock};

/// Always tells the same time of day.
pub struct StoppedClock(pub Duration);

impl HostWallClock for StoppedClock {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

/// Goes on by a microsecond whenever it is asked, so that a guest that waits for time to pass sees it pass.
#[derive(Default)]
pub struct CountingClock(AtomicU64);

impl CountingClock {
    const STEP_NS: u64 = 1_000;
}

impl HostMonotonicClock for CountingClock {
    fn resolution(&self) -> u64 {
        Self::STEP_NS
    }

    fn now(&self) -> u64 {
        self.0.fetch_add(Self::STEP_NS, Ordering::Relaxed)
    }
}

/// Random numbers that follow from a seed: BLAKE3's output stream for it.
pub struct Seeded(blake3::OutputReader);

impl Seeded {
    /// The numbers of `seed`; `purpose` keeps the streams of one seed apart.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        hasher.update(&seed.to_le_bytes());
        Seeded(hasher.finalize_xof())
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }
}

impl TryRng for Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.bytes()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.bytes()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_stream_and_another_seed_another() {
        let first = |seed, purpose| Seeded::new(seed, purpose).bytes::<32>();
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(2, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
    }

    #[test]
    fn time_passes_for_those_who_look() {
        let clock = CountingClock::default();
        assert_eq!([clock.now(), clock.now()], [0, 1_000]);
    }
}
