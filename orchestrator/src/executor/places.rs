//! The folders of one attempt on the host, and what they are called inside its cage.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use swarm_plans::InstanceId;
use swarm_protocol::{Access, Grant, SandboxSpec, Tier};

use super::outputs::{ARTIFACTS, OUT, OUTPUT};
use crate::agent::transcript;
use crate::dispatcher::NeedsView;
use crate::event::Handed;
use crate::fault;
use crate::ids::{Attempt, RunId, encode_component};
use crate::open::files::holds_something;
use crate::policy::AttemptPlaces;
use crate::removal::Debris;
use crate::state::{StateDir, make_private_dir_all};

/// Where the namespaces tier shows what is not the worktree.
const INSIDE: &str = "/run/swarm";

/// Names of needs longer than this, or with a slash, appear encoded below `$SWARM_NEEDS`.
const NAME_BYTES_MAX: usize = 200;

/// Hexadecimal digits that keep a worktree's name from being guessed.
const TAG_DIGITS: usize = 24;

/// The folders of one attempt.
#[derive(Debug, Clone)]
pub struct Places {
    /// Relative to the state folder.
    relative: String,
    /// Absolute.
    folder: PathBuf,
}

/// What an attempt sees of its folders and of its needs'.
#[derive(Debug, Default)]
pub struct Inside {
    /// The folders to show.
    pub grants: Vec<Grant>,
    /// The variables that name them.
    pub env: Vec<(String, String)>,
    /// Symlinks among them, with the folders they lead to: a WebAssembly guest cannot follow them out of a folder.
    pub links: Vec<(PathBuf, PathBuf)>,
}

impl Places {
    /// The places of one attempt; nothing is made yet.
    pub fn of(state: &StateDir, run: &RunId, instance: &InstanceId, attempt: Attempt) -> Self {
        let relative = StateDir::attempt(run, instance, attempt);
        Places { folder: state.path(&relative), relative }
    }

    /// The places of a repetition of the same attempt, inside of its own.
    pub fn again(&self, round: u32) -> Self {
        let name = format!("again-{round}");
        Places { folder: self.folder.join(&name), relative: format!("{}/{name}", self.relative) }
    }

    /// Throws away what a coordinator left that died before its journal knew of the attempt.
    ///
    /// # Errors
    /// The file system's.
    pub fn clear(&self, state: &StateDir) -> std::io::Result<()> {
        match self.folder.symlink_metadata() {
            Ok(_) => Debris::take(state, &self.folder).map(drop),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// As [`Places::clear`], for the thread that decides: somebody else removes it.
    ///
    /// # Errors
    /// The file system's.
    pub async fn clear_beside(&self, state: &StateDir) -> std::io::Result<()> {
        let (places, state) = (self.clone(), state.clone());
        tokio::task::spawn_blocking(move || places.clear(&state)).await?
    }

    /// The log.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The transcript of an agent.
    pub fn transcript(&self) -> PathBuf {
        self.folder.join(transcript::FILE)
    }

    /// The attempt's folder; absolute.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the work hands over.
    pub fn out(&self) -> PathBuf {
        self.folder.join(OUT)
    }

    /// `$SWARM_ARTIFACTS` on the host.
    pub fn artifacts(&self) -> PathBuf {
        self.out().join(ARTIFACTS)
    }

    /// Whether the attempt left files for others. Where that cannot be seen, nobody knows.
    pub fn handed(&self) -> Handed {
        match std::fs::read_dir(self.artifacts()).map(|mut entries| entries.next().is_some()) {
            Ok(true) => Handed::Files,
            Ok(false) => Handed::Nothing,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Handed::Nothing,
            Err(_) => Handed::Unknown,
        }
    }

    /// As [`Places::handed`], for the thread that decides: somebody else looks.
    pub async fn handed_beside(&self) -> Handed {
        let these = self.clone();
        tokio::task::spawn_blocking(move || these.handed()).await.unwrap_or(Handed::Unknown)
    }

    /// Makes what the work hands over in, and says what all of it is called inside. Only the work may write there: what a
    /// check sees is what was collected.
    ///
    /// # Errors
    /// The file system's.
    pub fn inside(
        &self,
        tier: Tier,
        out_access: Access,
        needs: &NeedsView,
        state: &StateDir,
        run: &RunId,
    ) -> std::io::Result<Inside> {
        fault::point()?;
        make_private_dir_all(&self.artifacts())?;
        let place = |name: &str| match tier {
            Tier::Namespaces => Path::new(INSIDE).join(name),
            Tier::Landlock => self.folder.join(name),
        };
        let out = place(OUT);
        let mut inside = Inside::default();
        inside.grants.push(Grant { path: self.out(), at: out.clone(), access: out_access });
        inside.env.push(("SWARM_ARTIFACTS".to_owned(), text(&out.join(ARTIFACTS))));
        inside.env.push(("SWARM_OUTPUT".to_owned(), text(&out.join(OUTPUT))));
        if needs.json.as_object().is_some_and(|json| !json.is_empty()) {
            self.show_needs(needs, tier, &place, state, run, &mut inside)?;
        }
        Ok(inside)
    }

    fn show_needs(
        &self,
        needs: &NeedsView,
        tier: Tier,
        place: &dyn Fn(&str) -> PathBuf,
        state: &StateDir,
        run: &RunId,
        inside: &mut Inside,
    ) -> std::io::Result<()> {
        let folder = self.folder.join("in");
        make_private_dir_all(&folder.join("needs"))?;
        std::fs::write(folder.join("needs.json"), needs.json.to_string())?;
        let at = place("in");
        inside.grants.push(Grant { path: folder.clone(), at: at.clone(), access: Access::Read });
        inside.env.push(("SWARM_NEEDS_JSON".to_owned(), text(&at.join("needs.json"))));
        inside.env.push(("SWARM_NEEDS".to_owned(), text(&at.join("needs"))));
        inside.env.push(("SWARM_NEEDS_INDEX".to_owned(), text(&at.join("needs.tsv"))));
        let mut index = String::new();
        for (instance, attempt) in &needs.artifacts {
            let artifacts = state.path(&StateDir::attempt(run, instance, *attempt)).join(OUT).join(ARTIFACTS);
            // A need whose result was reused has a folder only where it handed something over.
            if !holds_something(&artifacts) {
                continue;
            }
            let plain = instance.0.len() <= NAME_BYTES_MAX && !instance.0.contains('/') && !instance.0.starts_with('.');
            let name = if plain { instance.to_string() } else { encode_component(&instance.0) };
            let link = folder.join("needs").join(&name);
            // No instance's name holds a tab or a line feed.
            index.push_str(&format!("{instance}\t{}\n", text(&at.join("needs").join(&name))));
            match tier {
                Tier::Namespaces => {
                    make_private_dir_all(&link)?;
                    let at = at.join("needs").join(name);
                    inside.grants.push(Grant { path: artifacts, at, access: Access::Read });
                }
                Tier::Landlock => {
                    if let Err(error) = std::os::unix::fs::symlink(&artifacts, &link)
                        && error.kind() != std::io::ErrorKind::AlreadyExists
                    {
                        return Err(error);
                    }
                    inside.links.push((link, artifacts.clone()));
                    inside.grants.push(Grant { path: artifacts.clone(), at: artifacts, access: Access::Read });
                }
            }
        }
        std::fs::write(folder.join("needs.tsv"), index)
    }

    /// A folder of the attempt that a cage is shown for reading: on the host, and what it is called inside.
    pub fn shown(&self, tier: Tier, name: &str) -> Grant {
        let path = self.folder.join(name);
        let at = match tier {
            Tier::Namespaces => Path::new(INSIDE).join(name),
            Tier::Landlock => path.clone(),
        };
        Grant { path, at, access: Access::Read }
    }

    /// What a cage around a worktree of this attempt may call its own: the worktree's folder, so that two cages of one
    /// attempt share nothing that could be written. No other job can guess what it is called, which is worth something where it
    /// sees the host's folders and the kernel asks nobody before a mode changes.
    ///
    /// # Errors
    /// The file system's: its name is made with the state folder's secret.
    pub fn of_cage(&self, state: &StateDir, name: &str) -> std::io::Result<AttemptPlaces> {
        let plain = format!("{}/{name}", self.relative);
        let tag = blake3::keyed_hash(&state.secret()?, plain.as_bytes()).to_hex();
        let name = format!("{name}-{}", &tag[..TAG_DIGITS]);
        Ok(AttemptPlaces { folder: self.folder.join(&name), relative: format!("{}/{name}", self.relative) })
    }

    /// [`Places::inside`] and [`Places::of_cage`], for the thread that decides: somebody else makes the folders, however long the disk
    /// takes.
    ///
    /// # Errors
    /// As there.
    pub async fn caged_beside(
        &self,
        (tier, out_access): (Tier, Access),
        needs: &Arc<NeedsView>,
        (state, run): (&StateDir, &RunId),
        name: &str,
    ) -> std::io::Result<(Inside, AttemptPlaces)> {
        let (places, needs, state, run) = (self.clone(), Arc::clone(needs), state.clone(), run.clone());
        let name = name.to_owned();
        let made = tokio::task::spawn_blocking(move || {
            let inside = places.inside(tier, out_access, &needs, &state, &run)?;
            Ok((inside, places.of_cage(&state, &name)?))
        });
        made.await?
    }

    /// As [`Places::of_cage`], for the thread that decides: somebody else reads the secret, or waits until it is written.
    ///
    /// # Errors
    /// As there.
    pub async fn of_cage_beside(&self, state: &StateDir, name: &str) -> std::io::Result<AttemptPlaces> {
        let (places, state, name) = (self.clone(), state.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || places.of_cage(&state, &name)).await?
    }
}

/// Makes the host folders that a spec names for private use: copy-on-write layers, home and tmp.
///
/// # Errors
/// The file system's.
pub fn make_private_folders(state: &StateDir, spec: &SandboxSpec) -> std::io::Result<()> {
    for cow in &spec.cow {
        make_private_dir_all(&state.path(&cow.upper))?;
        make_private_dir_all(&state.path(&cow.work))?;
    }
    if let Some(tmp) = &spec.tmp {
        make_private_dir_all(tmp)?;
        make_private_dir_all(&spec.home)?;
    }
    Ok(())
}

/// As [`make_private_folders`], for the thread that decides: somebody else makes them. Gives the spec back.
///
/// # Errors
/// As there.
pub async fn with_private_folders(state: &StateDir, spec: SandboxSpec) -> std::io::Result<SandboxSpec> {
    let state = state.clone();
    tokio::task::spawn_blocking(move || make_private_folders(&state, &spec).map(|()| spec)).await?
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_that_another_writes_is_not_waited_for_by_the_thread_that_decides() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(folder.path()).expect("a state folder");
        let places = Places::of(&state, &RunId("r-1".to_owned()), &InstanceId("t".into()), Attempt(1));
        let lock = state.lock("secret").expect("nobody has it");
        // Asked for first; the lock is let go by what comes after it on the same thread.
        let (own, ()) = tokio::join!(biased; places.of_cage_beside(&state, "work"), async { drop(lock) });
        assert_eq!(own.expect("a name").relative, places.of_cage(&state, "work").expect("a name").relative);
    }

    #[tokio::test]
    async fn what_needs_hand_over_is_not_written_by_the_thread_that_decides() {
        use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(folder.path()).expect("a state folder");
        let run = RunId("r-1".to_owned());
        let places = Places::of(&state, &run, &InstanceId("t".into()), Attempt(1));
        let slow = places.folder().join("in/needs.json");
        make_private_dir_all(slow.parent().expect("a folder")).expect("space");
        // Whoever writes there waits for who reads, who comes after it on the same thread.
        mknodat(CWD, &slow, FileType::Fifo, Mode::RWXU, 0).expect("made");
        let needs = Arc::new(NeedsView { json: serde_json::json!({ "a": 1 }), ..NeedsView::default() });
        let reads = async { open(&slow, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).expect("it is there") };
        let how = (Tier::Landlock, Access::Write);
        let (made, _reader) = tokio::join!(biased; places.caged_beside(how, &needs, (&state, &run), "work"), reads);
        assert!(made.expect("made").0.env.iter().any(|(name, _)| name == "SWARM_NEEDS_JSON"));
    }

    #[test]
    fn what_a_worktree_is_called_nobody_can_tell_who_does_not_know_the_secret() {
        let name = || {
            let folder = tempfile::tempdir().expect("a folder");
            let state = StateDir::open(folder.path()).expect("a state folder");
            let places = Places::of(&state, &RunId("r-1".to_owned()), &InstanceId("t".into()), Attempt(1));
            let of = |name: &str| places.of_cage(&state, name).expect("a secret").relative;
            assert_eq!(of("work"), of("work"));
            assert_ne!(of("work"), of("check").replace("check", "work"));
            of("work")
        };
        let (one, other) = (name(), name());
        assert!(one.starts_with("runs/r-1/t/1/work-"), "{one}");
        assert_ne!(one, other);
    }
}
