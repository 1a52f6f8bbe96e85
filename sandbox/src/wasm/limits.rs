//! Bounds within a guest's own store. A guest that breaks one is ended, and the limit is named: an answer of "no more
//! memory" would let it go on in a state that its author never saw.

use std::time::Duration;

use wasmtime::ResourceLimiter;

use crate::watchdog::bytes;

/// What one guest may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestLimits {
    /// Bytes of all its memories together.
    pub memory_bytes: u64,
    /// Elements of all its tables together.
    pub table_elements: u64,
    /// Core instances; a component consists of several.
    pub instances: usize,
    /// Wall time.
    pub time: Option<Duration>,
    /// Instructions, roughly; `None` does not count them.
    pub fuel: Option<u64>,
}

impl GuestLimits {
    /// Bytes of memory of a guest whose policy does not say: what 32-bit addresses reach.
    pub const MEMORY_BYTES_DEFAULT: u64 = 4 << 30;
    /// A table element takes eight bytes of the host.
    pub const TABLE_ELEMENTS_DEFAULT: u64 = 1 << 20;
    /// Components that are linked from many parts have some tens.
    pub const INSTANCES_DEFAULT: usize = 1_000;
    /// Memories and tables of one store: each reserves address space.
    pub const PARTS_MAX: usize = 1_000;
}

impl Default for GuestLimits {
    fn default() -> Self {
        GuestLimits {
            memory_bytes: Self::MEMORY_BYTES_DEFAULT,
            table_elements: Self::TABLE_ELEMENTS_DEFAULT,
            instances: Self::INSTANCES_DEFAULT,
            time: None,
            fuel: None,
        }
    }
}

/// A limit that a guest broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct LimitBroken {
    /// The limit's name as plans write it.
    pub limit: &'static str,
    /// What was seen, for people.
    pub detail: String,
}

/// Keeps the limits of one store.
#[derive(Debug)]
pub struct Limiter {
    limits: GuestLimits,
    memory_bytes: u64,
    table_elements: u64,
}

impl Limiter {
    /// For a store in which nothing exists yet.
    pub fn new(limits: GuestLimits) -> Self {
        Limiter { limits, memory_bytes: 0, table_elements: 0 }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false); // The guest's own bound, which its author knows.
        }
        let limit = self.limits.memory_bytes;
        match grown(self.memory_bytes, current, desired).filter(|&all| all <= limit) {
            Some(all) => self.memory_bytes = all,
            None => {
                let [desired, limit] = [u64::try_from(desired).ok(), Some(limit)].map(bytes);
                let detail = format!("the guest asked for {desired} of memory, {limit} are allowed");
                return Err(LimitBroken { limit: "memory", detail }.into());
            }
        }
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // Growing beyond what the guest itself declared fails here as well; the machine's "no" is another matter.
        match error.downcast_ref::<std::io::Error>() {
            Some(system) => Err(LimitBroken { limit: "memory", detail: format!("no more memory: {system}") }.into()),
            None => Ok(()),
        }
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let limit = self.limits.table_elements;
        match grown(self.table_elements, current, desired).filter(|&all| all <= limit) {
            Some(all) => self.table_elements = all,
            None => {
                let detail = format!("the guest asked for a table of {desired} elements, {limit} are allowed");
                return Err(LimitBroken { limit: "table", detail }.into());
            }
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }

    fn tables(&self) -> usize {
        GuestLimits::PARTS_MAX
    }

    fn memories(&self) -> usize {
        GuestLimits::PARTS_MAX
    }
}

/// The sum of all parts after one of them grew; `None` when no number holds it.
fn grown(all: u64, current: usize, desired: usize) -> Option<u64> {
    let added = u64::try_from(desired.saturating_sub(current)).ok()?;
    all.checked_add(added)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(answer: wasmtime::Result<bool>) -> &'static str {
        answer.unwrap_err().downcast_ref::<LimitBroken>().expect("a limit").limit
    }

    #[test]
    fn the_sum_of_all_memories_counts() {
        let mut limiter = Limiter::new(GuestLimits { memory_bytes: 100, ..GuestLimits::default() });
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert_eq!(broken(limiter.memory_growing(40, 41, None)), "memory");
        assert_eq!(broken(limiter.memory_growing(60, usize::MAX, None)), "memory");
    }

    #[test]
    fn bytes_are_told_as_people_count_them() {
        let mut limiter = Limiter::new(GuestLimits { memory_bytes: 2 << 30, ..GuestLimits::default() });
        let said = limiter.memory_growing(0, 60_000 << 16, None).unwrap_err().to_string();
        assert_eq!(said, "the guest asked for 3.6 GiB of memory, 2 GiB are allowed");
    }

    #[test]
    fn a_guests_own_maximum_is_answered_and_not_punished() {
        let mut limiter = Limiter::new(GuestLimits { memory_bytes: 100, table_elements: 10, ..GuestLimits::default() });
        assert!(!limiter.memory_growing(0, 200, Some(50)).unwrap());
        assert!(!limiter.table_growing(0, 20, Some(5)).unwrap());
        assert_eq!(broken(limiter.table_growing(0, 11, None)), "table");
    }
}
