//! Resource limits of single processes, by setrlimit(2). Limits of a whole job need a cgroup and are not built here;
//! [`crate::enforcement`] says so for each.

use rustix::io;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::policy::Limits;

/// Sets all limits of the calling process, for good: soft and hard alike. A limit above what the machine allows becomes
/// the machine's own.
pub fn apply(limits: &Limits) -> io::Result<()> {
    lower(Resource::Core, 0)?;
    let wanted = [
        (Resource::Data, limits.memory_bytes),
        (Resource::Nproc, limits.processes),
        (Resource::Nofile, limits.open_files),
        (Resource::Fsize, limits.file_bytes),
    ];
    for (resource, bound) in wanted {
        if let Some(bound) = bound {
            lower(resource, bound)?;
        }
    }
    Ok(())
}

fn lower(resource: Resource, bound: u64) -> io::Result<()> {
    let bound = getrlimit(resource).maximum.map_or(bound, |machine| bound.min(machine));
    setrlimit(resource, Rlimit { current: Some(bound), maximum: Some(bound) })
}
