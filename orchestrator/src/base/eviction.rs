//! Prepared layers stay for later runs, and each run leaves some: a base for each commit that runs began with, the difference
//! of each tree that was verified. Before a run takes up its work, those that were not used for longest go, where there are
//! more than a bound. Only while no coordinator uses the state folder, and never what the newest run used: it is what the
//! next one starts with.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::published::{BYTES, READY};
use crate::journal::{LockError, RunLock};
use crate::removal::Debris;
use crate::state::StateDir;

/// Layers and bases that are kept: what some hundred runs of a plan leave.
const PIECES_MAX: usize = 2_000;
/// Bytes that they take together.
const BYTES_MAX: u64 = 16 << 30;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
struct Bound {
    pieces: usize,
    bytes: u64,
}

/// Takes prepared layers above the bound out of use; they are removed by a thread of its own. Nobody loses anything: whoever
/// needs one makes it again.
pub fn evict_unused(state: &StateDir) {
    // Held until nobody can find them under their names any more.
    let alone = match RunLock::of_idle_state(state.root()) {
        Ok(alone) => alone,
        Err(LockError::Held { .. }) => return,
        Err(error) => return tracing::warn!(%error, "prepared layers were not looked through"),
    };
    match evict(state, Bound { pieces: PIECES_MAX, bytes: BYTES_MAX }) {
        Ok(debris) if debris.is_empty() => {}
        // Where the process ends before, `swarm resume` and `swarm clean` remove what is left.
        // Where there is no thread, it goes here and now.
        Ok(debris) => drop(std::thread::Builder::new().name("eviction".to_owned()).spawn(move || drop(debris))),
        Err(error) => tracing::warn!(%error, "prepared layers that nobody uses could not be taken away"),
    }
    drop(alone);
}

/// A prepared layer.
struct Piece {
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
}

impl Piece {
    /// `None` where it is none, or was never finished.
    fn at(path: PathBuf) -> Option<Piece> {
        let used = path.join(READY).metadata().and_then(|ready| ready.modified()).ok()?;
        let bytes = fs::read_to_string(path.join(BYTES)).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        Some(Piece { path, used, bytes })
    }
}

fn evict(state: &StateDir, bound: Bound) -> io::Result<Vec<Debris>> {
    let bases = pieces(&state.path("bases"))?;
    // A run begins with its base: what it used besides was used behind that.
    let newest = bases.iter().map(|base| base.used).max();
    let mut all: Vec<Piece> = bases.into_iter().chain(pieces(&state.path("layers"))?).collect();
    all.sort_by_key(|piece| std::cmp::Reverse(piece.used));
    let (mut bytes, mut debris) = (0_u64, Vec::new());
    for (count, piece) in (1..).zip(&all) {
        bytes = bytes.saturating_add(piece.bytes);
        let is_over = count > bound.pieces || bytes > bound.bytes;
        if is_over && newest.is_none_or(|newest| piece.used < newest) {
            debris.push(take(state, &piece.path)?);
        }
    }
    Ok(debris)
}

fn pieces(folder: &Path) -> io::Result<Vec<Piece>> {
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.into_iter().filter_map(|entry| Piece::at(entry.path())).collect())
}

/// Takes one out of use, with its lock.
fn take(state: &StateDir, path: &Path) -> io::Result<Debris> {
    let debris = Debris::take(state, path)?;
    drop(fs::remove_file(path.with_extension("lock")));
    Ok(debris)
}

/// Says of a layer that it is used now. A layer that cannot be told so is only made again earlier.
pub(super) fn used(layer: &Path) {
    let told =
        File::options().write(true).open(layer.join(READY)).and_then(|ready| ready.set_modified(SystemTime::now()));
    if let Err(error) = told {
        tracing::debug!(layer = %layer.display(), %error, "when it was used last stays what it was");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Layers, oldest first, each used a second behind the one before: name and bytes.
    fn scene(all: &[(&str, u64)]) -> (tempfile::TempDir, StateDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(folder.path()).expect("a state folder");
        for ((name, bytes), second) in all.iter().zip(1..) {
            let path = state.path(name);
            fs::create_dir(&path).expect("a folder");
            fs::write(path.join(BYTES), bytes.to_string()).expect("space");
            fs::write(path.join(READY), "boot").expect("space");
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            let ready = File::options().write(true).open(path.join(READY)).expect("a file");
            ready.set_modified(used).expect("ours");
            drop(state.lock(name).expect("a lock"));
        }
        (folder, state)
    }

    fn left(state: &StateDir) -> Vec<String> {
        let names = ["bases", "layers"].map(|folder| fs::read_dir(state.path(folder)).expect("a folder").flatten());
        let mut names: Vec<String> =
            names.into_iter().flatten().map(|entry| entry.file_name().into_string().expect("plain")).collect();
        names.sort();
        names
    }

    const ALL: [(&str, u64); 5] =
        [("bases/a", 10), ("layers/b", 10), ("layers/c", 10), ("bases/d", 10), ("layers/e", 10)];

    #[test]
    fn what_was_not_used_for_longest_goes_and_what_the_newest_run_used_stays() {
        for (pieces, bytes, expected) in [
            (5, 50, "a b c d e"),
            (4, 50, "b c d e"),
            (9, 49, "b c d e"),
            (9, 25, "d e"),
            // The newest base and what is younger than it.
            (0, 0, "d e"),
        ] {
            let (_folder, state) = scene(&ALL);
            drop(evict(&state, Bound { pieces, bytes }).expect("evicted"));
            let names = left(&state);
            let names: Vec<&str> =
                names.iter().filter_map(|name| (!name.ends_with(".lock")).then_some(&**name)).collect();
            assert_eq!(names.join(" "), expected, "{pieces} {bytes}");
            assert_eq!(left(&state).len(), 2 * names.len(), "locks go with what they are of");
        }
    }

    #[test]
    fn what_is_used_again_is_the_newest() {
        let (_folder, state) = scene(&ALL);
        used(&state.path("bases/a"));
        drop(evict(&state, Bound { pieces: 1, bytes: 50 }).expect("evicted"));
        assert_eq!(left(&state), ["a", "a.lock"]);
    }

    #[test]
    fn nothing_goes_while_a_coordinator_is_at_work() {
        let (_folder, state) = scene(&ALL);
        let other = RunLock::of_state(state.root()).expect("shared");
        assert!(matches!(RunLock::of_idle_state(state.root()), Err(LockError::Held { .. })));
        evict_unused(&state);
        assert_eq!(left(&state).len(), 10);
        drop(other);
    }
}
