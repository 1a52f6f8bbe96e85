//! The umask of whoever started us. One that takes rights from the owner of new files and folders keeps us out of what we make
//! ourselves, whoever owns what is around it, and what fails then names everything but the cause.

use std::io;

/// The umask takes rights from the owner of what is made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the umask {umask} keeps its own owner out of what is made")]
pub(super) struct OwnerKeptOut {
    /// In octal, as shells print it.
    umask: String,
}

/// Says that nothing we make could be used by us.
///
/// # Errors
/// It could not; of the kind that a folder without rights gives.
pub(super) fn expect_usable() -> io::Result<()> {
    let Some(umask) = own() else { return Ok(()) };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, OwnerKeptOut { umask }))
}

/// What a person can type against it; `None` where the umask is like any other.
pub(super) fn hint() -> Option<String> {
    let umask = own()?;
    Some(format!(
        "the umask of this shell is {umask}, which takes rights from the owner of new files and folders: umask 022"
    ))
}

/// Our own, where it takes rights from the owner of what we make. Without `/proc` nobody knows.
fn own() -> Option<String> {
    taking_from_owner(&std::fs::read_to_string("/proc/self/status").ok()?).map(str::to_owned)
}

/// Source: proc_pid_status(5), `Umask`.
fn taking_from_owner(status: &str) -> Option<&str> {
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?.trim();
    let bits = u32::from_str_radix(umask, 8).ok()?;
    (bits & 0o700 != 0).then_some(umask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_umask_that_takes_rights_from_the_owner_is_told() {
        let told = |umask: &str| taking_from_owner(&format!("Name:\tswarm\nUmask:\t{umask}\nState:\tR\n")).is_some();
        assert_eq!(["0111", "0777", "0200", "0400"].map(told), [true; 4]);
        assert_eq!(["0022", "0077", "0000", "0002"].map(told), [false; 4]);
        assert_eq!(taking_from_owner("Name:\tswarm\n"), None);
    }
}
