//! WebAssembly guests as work: which module, with which folders.
//!
//! The module is a file of the tree that the attempt starts from, or one that a need handed over. Its bytes are copied into
//! the state folder, where no job can change them, under a name that is their content; the worker compiles what lies there.
//! A guest sees its worktree as `.`, as `/` and under its own path, everything else under the path that the variables name.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use git2::Oid;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use swarm_plans::{InstanceId, RenderedGuest};
use swarm_protocol::{Access, Ended, Grant, Job, SandboxSpec, Stream, WasmJob, WasmPreopen};

use super::job::Ran;
use super::outputs::{ARTIFACTS, OUT};
use super::places::Inside;
use super::trees::Start;
use super::{Executor, Stop, Trial, When};
use crate::dispatcher::NeedsView;
use crate::event::AttemptEnd;
use crate::ids::RunId;
use crate::journal::LogWriter;
use crate::repository::{Repository, RepositoryError};
use crate::state::{StateDir, make_private_dir_all, write_whole};
use crate::tree;
use crate::worktree::Worktree;

/// The largest module, in bytes; the worker accepts no larger one.
const MODULE_BYTES_MAX: u64 = 128 << 20;
/// How a module is named that a need handed over.
const NEEDS_PREFIX: &str = "$SWARM_NEEDS/";

/// Why a guest has no module.
#[derive(Debug, thiserror::Error)]
enum ModuleError {
    /// The plan names a file that is not there, or none that could be a module. For people.
    #[error("{0}")]
    NotThere(String),
    /// The repository.
    #[error("read a module: {0}")]
    Repository(#[from] RepositoryError),
    /// Trees.
    #[error("read a module: {0}")]
    Tree(#[from] tree::TreeError),
    /// The state folder.
    #[error("keep a module: {0}")]
    State(#[from] io::Error),
}

/// Where modules come from and where they are kept.
struct Modules {
    /// The repository.
    repository: Arc<Repository>,
    /// The tree that the attempt starts from.
    tree: Oid,
    /// The run.
    run: RunId,
    /// What its needs handed over.
    needs: Arc<NeedsView>,
    /// Where everything of ours lies.
    state: StateDir,
}

impl Modules {
    /// The file that holds the module which the plan calls `name`. Blocks.
    ///
    /// # Errors
    /// [`ModuleError`].
    fn find(&self, name: &str) -> Result<PathBuf, ModuleError> {
        match name.strip_prefix(NEEDS_PREFIX) {
            Some(below) => self.handed_over(name, below),
            None => self.tracked(name),
        }
    }

    fn tracked(&self, name: &str) -> Result<PathBuf, ModuleError> {
        let missing = |why: &str| ModuleError::NotThere(format!("{name}: {why} in the tree that the task starts from"));
        let git = self.repository.handle()?;
        let odb = git.odb().map_err(RepositoryError::from)?;
        let plain = name.strip_prefix("./").unwrap_or(name);
        let entry = tree::find(&odb, self.tree, plain.as_bytes())?.ok_or_else(|| missing("there is no such file"))?;
        if entry.mode != tree::FILE && entry.mode != tree::EXECUTABLE {
            return Err(missing("it is no plain file"));
        }
        let kept = self.kept(&entry.id.to_string());
        if kept.exists() {
            return Ok(kept);
        }
        let (size, _) = odb.read_header(entry.id).map_err(RepositoryError::from)?;
        if size as u64 > MODULE_BYTES_MAX {
            return Err(missing("it is too large for a module"));
        }
        let blob = odb.read(entry.id).map_err(RepositoryError::from)?;
        self.keep(&kept, blob.data())?;
        Ok(kept)
    }

    /// A file that another job wrote: nothing about it is believed.
    fn handed_over(&self, name: &str, below: &str) -> Result<PathBuf, ModuleError> {
        let missing = |why: String| ModuleError::NotThere(format!("{name}: {why}"));
        let (instance, file) = below.split_once('/').unwrap_or((below, ""));
        let instance = InstanceId(instance.into());
        let attempt = self.needs.artifacts.iter().find(|(need, _)| *need == instance).map(|(_, attempt)| *attempt);
        let attempt = attempt.ok_or_else(|| missing(format!("`{instance}` is none of the task's needs")))?;
        let folder = self.state.path(&StateDir::attempt(&self.run, &instance, attempt)).join(OUT).join(ARTIFACTS);
        let bytes = read_beneath(&folder, Path::new(file)).map_err(|error| missing(error.to_string()))?;
        let kept = self.kept(&blake3::hash(&bytes).to_hex());
        if !kept.exists() {
            self.keep(&kept, &bytes)?;
        }
        Ok(kept)
    }

    fn kept(&self, digest: &str) -> PathBuf {
        self.state.path(StateDir::MODULES).join(format!("{digest}.wasm"))
    }

    /// Writes a module whole or not at all.
    fn keep(&self, kept: &Path, bytes: &[u8]) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        make_private_dir_all(&self.state.path(StateDir::MODULES))?;
        let draft = kept.with_extension(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        write_whole(kept, &draft, 0o400, bytes)
    }
}

/// Reads a plain file below a folder without following any symlink and without waiting for anybody.
fn read_beneath(folder: &Path, file: &Path) -> io::Result<Vec<u8>> {
    let root = rustix::fs::openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = std::fs::File::from(rustix::fs::openat2(root, file, flags, Mode::empty(), resolve)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut bytes = Vec::new();
    if file.take(MODULE_BYTES_MAX + 1).read_to_end(&mut bytes)? as u64 > MODULE_BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(bytes)
}

impl Executor {
    /// Runs the attempt's guest in a worktree.
    pub(super) async fn guest(
        &self,
        trial: Trial<'_>,
        guest: RenderedGuest,
        start: &Start,
        worktree: &Worktree,
        log: &mut LogWriter,
    ) -> Result<Ran, Stop> {
        let Trial { job, task, .. } = trial;
        let rendered = &job.rendered;
        let modules = Modules {
            repository: Arc::clone(&self.repository),
            tree: start.tree,
            run: self.run.clone(),
            needs: Arc::clone(&job.needs),
            state: self.state.clone(),
        };
        let name = rendered.argv[0].clone();
        let module = match tokio::task::spawn_blocking(move || modules.find(&name)).await? {
            Ok(module) => module,
            Err(ModuleError::NotThere(reason)) => {
                return Err(Stop(AttemptEnd::Work { ended: Ended::StartFailed { reason } }));
            }
            Err(error) => return Err(error.into()),
        };
        let (spec, inside) = self.cage_of(trial, worktree, When::WORK).await?;
        let seed = rendered.env.iter().find(|(name, _)| name == "SWARM_SEED").and_then(|(_, seed)| seed.parse().ok());
        let wasm = WasmJob {
            module,
            compiled: self.state.path(StateDir::COMPILED),
            args: rendered.argv.clone(),
            preopens: preopens(&spec, &inside, self.cages[&task.sandbox].named(), rendered.writes.as_deref()),
            fuel: guest.fuel,
            seed: seed.unwrap_or(0),
        };
        // A log that cannot be written is noticed when it is finished.
        let mut hear = |_: Stream, bytes: &[u8]| log.write(bytes);
        Ok(self.jobs.run_job(Some(&job.name), Job::Wasm(wasm), task.timeout, spec, &mut hear).await?)
    }
}

/// What a guest of the cage `spec` sees: its worktree (for reading only where the task changes nothing), what the attempt
/// hands over and gets, its private folder for temporary files, and what its policy names. That folder is `/tmp` in either tier, and
/// also what the variables say, unless the policy names the host's.
fn preopens(spec: &SandboxSpec, inside: &Inside, named: &[Grant], writes: Option<&[String]>) -> Vec<WasmPreopen> {
    let in_tree = if writes == Some(&[]) { Access::Read } else { Access::Write };
    let worktree = spec.worktree.at().as_path();
    let tmp = spec.tmp.as_deref().unwrap_or(Path::new("/tmp"));
    let granted = inside.grants.iter().chain(named.iter().filter(|grant| grant.path.is_dir()));
    let usual = Path::new("/tmp");
    let is_taken = tmp == usual || granted.clone().any(|grant| grant.at == usual);
    let own = [(worktree, worktree, in_tree), (tmp, tmp, Access::Write)];
    let own = own.into_iter().chain((!is_taken).then_some((tmp, usual, Access::Write)));
    let granted = granted.map(|grant| (grant.at.as_path(), grant.at.as_path(), grant.access));
    let linked = inside.links.iter().map(|(name, path)| (path.as_path(), name.as_path(), Access::Read));
    let under_paths = own.chain(granted).chain(linked);
    [(worktree, Path::new("."), in_tree), (worktree, Path::new("/"), in_tree)]
        .into_iter()
        .chain(under_paths)
        .filter_map(|(path, name, access)| {
            Some(WasmPreopen { path: path.to_owned(), name: name.to_str()?.to_owned(), access })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use swarm_protocol::{LimitsSpec, NetworkSpec, Tier, WorktreeSpec};

    use super::*;

    #[test]
    fn a_guest_finds_its_own_tmp_under_that_name_in_either_tier() {
        let tree = PathBuf::from("/repo");
        let spec = |tier: Tier, tmp: Option<&str>| SandboxSpec {
            tier,
            worktree: WorktreeSpec::Directory { at: tree.clone(), path: tree.clone() },
            grants: vec![],
            cow: vec![],
            hide: vec![],
            home: PathBuf::from("/home"),
            home_files: vec![],
            tmp: tmp.map(PathBuf::from),
            network: NetworkSpec::None,
            limits: LimitsSpec::default(),
            env: vec![],
        };
        let named = |spec: &SandboxSpec, named: &[Grant]| {
            let preopens = preopens(spec, &Inside::default(), named, None);
            let of_tmp = preopens.into_iter().filter(|preopen| preopen.name == "/tmp");
            of_tmp.map(|preopen| preopen.path.display().to_string()).collect::<Vec<_>>()
        };
        let weak = spec(Tier::Landlock, Some("/state/tmp"));
        assert_eq!(named(&spec(Tier::Namespaces, None), &[]), ["/tmp"]);
        assert_eq!(named(&weak, &[]), ["/state/tmp"]);
        let host = Grant { path: PathBuf::from("/tmp"), at: PathBuf::from("/tmp"), access: Access::Read };
        assert_eq!(named(&weak, &[host]), ["/tmp"], "what the policy names is the host's");
    }
}
