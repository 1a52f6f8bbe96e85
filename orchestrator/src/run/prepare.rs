//! The base of a run: checked out for tasks, and whole for those who judge a merged tree.

use std::sync::atomic::Ordering;

use git2::Oid;
use tokio::sync::watch;

use crate::base::{BaseError, Bases, Prepared};
use crate::worker_process::Permit;

/// Who looks at the trees of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// Tasks and their checks only.
    ByTasks,
    /// A gate, too, or a command that makes files again: they see all files of a tree, whatever `[workspace] sparse` says.
    Whole,
}

/// Prepares the base on a thread of its own, so that signals are heard meanwhile; it ends early once the permit is withdrawn.
///
/// # Errors
/// [`BaseError`].
pub(super) async fn prepare(
    bases: Bases,
    base: Oid,
    judged: Judged,
    mut permitted: watch::Receiver<Permit>,
) -> Result<(Bases, Prepared), BaseError> {
    let stop = bases.stop();
    let mut work = tokio::task::spawn_blocking(move || {
        let shown = bases.prepare(base)?;
        let whole = (judged == Judged::Whole).then(|| bases.whole(&shown)).transpose()?;
        Ok((bases, Prepared { shown, whole }))
    });
    loop {
        tokio::select! {
            done = &mut work => return done.expect("BUG: preparing the base panicked"),
            Ok(()) = permitted.changed() => stop.store(true, Ordering::Relaxed),
        }
    }
}
