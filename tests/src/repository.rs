//! Real repositories in a temporary folder, made by libgit2, so that a machine without a git binary runs the same tests.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use git2::{IndexAddOption, ObjectType, Oid, Signature, Time, TreeWalkMode, TreeWalkResult};

/// Seconds since 1970 of every commit that a test makes: 14 November 2023.
pub const COMMIT_DATE_S: i64 = 1_700_000_000;

/// A repository on branch `main` with a checkout, removed when dropped. Beside it lie the caller's home and a folder for
/// plans and the output of runs.
#[derive(Debug)]
pub struct Repository {
    folder: tempfile::TempDir,
}

impl Repository {
    /// One without commits.
    pub fn empty() -> Repository {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["home", "beside"] {
            fs::create_dir(folder.path().join(name)).expect("a new folder");
        }
        let git = git2::Repository::init(folder.path().join("repo")).expect("a new repository");
        git.set_head("refs/heads/main").expect("a valid name");
        let mut config = git.config().expect("a new repository has one");
        config.set_str("user.name", "Ada").expect("writable");
        config.set_str("user.email", "ada@example.org").expect("writable");
        Repository { folder }
    }

    /// One with a single commit of these files: path and content.
    pub fn with<P: AsRef<Path>, C: AsRef<[u8]>>(files: &[(P, C)]) -> Repository {
        let repository = Repository::empty();
        for (path, content) in files {
            repository.write(path, content);
        }
        repository.commit_all("first\n");
        repository
    }

    /// Another one like it, with all that lies beside the checkout.
    ///
    /// # Panics
    /// There is no space, or no `cp`.
    pub fn copy(&self) -> Repository {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut copy = std::process::Command::new("cp");
        copy.arg("-a").arg(self.folder.path().join(".")).arg(folder.path());
        assert!(copy.status().is_ok_and(|status| status.success()), "{copy:?}");
        Repository { folder }
    }

    /// The checkout.
    pub fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("it exists").join("repo")
    }

    /// The home folder of whoever runs the program.
    pub fn home(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("it exists").join("home")
    }

    /// A path beside checkout and home.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().expect("it exists").join("beside").join(name)
    }

    /// Opens it.
    pub fn git(&self) -> git2::Repository {
        git2::Repository::open(self.path()).expect("it is a repository")
    }

    /// Writes a file of the checkout, with its folders.
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("inside the checkout")).expect("folders");
        fs::write(path, content).expect("a file");
    }

    /// Commits the whole checkout onto HEAD.
    pub fn commit_all(&self, message: &str) -> Oid {
        let git = self.git();
        let mut index = git.index().expect("an index");
        index.add_all(["*"], IndexAddOption::DEFAULT, None).expect("readable files");
        index.update_all(["*"], None).expect("readable files");
        index.write().expect("writable");
        let tree = git.find_tree(index.write_tree().expect("legal names")).expect("just written");
        let who = Signature::new("Ada", "ada@example.org", &Time::new(COMMIT_DATE_S, 0)).expect("legal");
        let parent = git.head().ok().and_then(|head| head.peel_to_commit().ok());
        git.commit(Some("HEAD"), &who, &who, message, &tree, &parent.iter().collect::<Vec<_>>()).expect("a commit")
    }

    /// The tree of a revision.
    pub fn tree(&self, revision: &str) -> Oid {
        let git = self.git();
        let object = git.revparse_single(revision).unwrap_or_else(|error| panic!("{revision}: {error}"));
        object.peel(ObjectType::Tree).expect("a commit has a tree").id()
    }

    /// The commit of a revision, when there is one.
    pub fn commit_of(&self, revision: &str) -> Option<Oid> {
        let git = self.git();
        git.revparse_single(revision).ok()?.peel_to_commit().ok().map(|commit| commit.id())
    }

    /// All files of a revision: path to content.
    pub fn files(&self, revision: &str) -> BTreeMap<String, Vec<u8>> {
        let git = self.git();
        let tree = git.find_tree(self.tree(revision)).expect("it was just found");
        let mut files = BTreeMap::new();
        tree.walk(TreeWalkMode::PreOrder, |folder, entry| {
            if entry.kind() == Some(ObjectType::Blob) {
                let path = format!("{folder}{}", String::from_utf8_lossy(entry.name_bytes()));
                files.insert(path, git.find_blob(entry.id()).expect("it is there").content().to_vec());
            }
            TreeWalkResult::Ok
        })
        .expect("readable trees");
        files
    }

    /// The text of one file of a revision.
    ///
    /// # Panics
    /// The revision has no such file.
    pub fn text(&self, revision: &str, path: &str) -> String {
        let files = self.files(revision);
        let bytes = files.get(path).unwrap_or_else(|| panic!("{revision} has no {path}: {:?}", files.keys()));
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Names of all refs that match a glob, sorted.
    pub fn refs(&self, glob: &str) -> Vec<String> {
        let git = self.git();
        let found = git.references_glob(glob).expect("a glob");
        let name = |reference: git2::Reference<'_>| String::from_utf8_lossy(reference.name_bytes()).into_owned();
        let mut names: Vec<String> = found.map(|reference| name(reference.expect("readable"))).collect();
        names.sort();
        names
    }

    /// What a run must leave alone: every byte of the checkout and of `.git`, except for what the coordinator adds under its
    /// own names (`swarm/`, `refs/swarm/`, the branch `target` and its reflog) and new objects.
    pub fn freeze(&self, target: &str) -> Frozen {
        let mut entries = BTreeMap::new();
        let top = self.path();
        let own = [
            ".git/swarm".to_owned(),
            ".git/refs/swarm".to_owned(),
            // Where a person wants a reflog of every ref.
            ".git/logs/refs/swarm".to_owned(),
            format!(".git/refs/heads/{target}"),
            format!(".git/logs/refs/heads/{target}"),
        ];
        walk(&top, &mut |path, looks| {
            let path = path.strip_prefix(&top).expect("below it").to_string_lossy().into_owned();
            let is_own = own.iter().any(|own| path == *own || path.starts_with(&format!("{own}/")));
            // A folder that only leads to what is ours comes and goes with it.
            let leads_to_own = looks == "folder" && own.iter().any(|own| own.starts_with(&format!("{path}/")));
            if !is_own && !leads_to_own {
                entries.insert(path, looks);
            }
        });
        Frozen { entries }
    }

    /// A git command in the checkout, without the configuration of whoever runs the tests; `None` where git is not installed.
    pub fn run_git(&self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new("git");
        command.current_dir(self.path()).args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null");
        let output = command.env("GIT_CONFIG_SYSTEM", "/dev/null").env("HOME", self.home()).output();
        let Ok(output) = output else {
            swarm_protocol::skipped::say("no git on PATH");
            return None;
        };
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {err}");
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Every path of a checkout with its repository, and how it looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    entries: BTreeMap<String, String>,
}

impl Frozen {
    /// What another look shows differently: changed and removed paths, and new ones that are no objects.
    pub fn differences(&self, later: &Frozen) -> Vec<String> {
        let changed = self.entries.iter().filter_map(|(path, looks)| match later.entries.get(path) {
            None => Some(format!("{path} is gone")),
            Some(now) if now != looks => Some(format!("{path} was {looks}, is {now}")),
            Some(_) => None,
        });
        let new = later.entries.keys().filter(|path| !self.entries.contains_key(*path));
        let new = new.filter(|path| !path.starts_with(".git/objects/")).map(|path| format!("{path} is new"));
        changed.chain(new).collect()
    }
}

fn walk(folder: &Path, see: &mut dyn FnMut(&Path, String)) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        let metadata = path.symlink_metadata().expect("it was listed");
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_dir() {
            see(&path, "folder".to_owned());
            // What a run leaves is of no interest here, and may not be readable.
            if !path.ends_with(".git/swarm") {
                walk(&path, see);
            }
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).expect("a link");
            see(&path, format!("link to {:?}", target.as_os_str().as_bytes()));
        } else {
            let content = fs::read(&path).expect("a readable file");
            let id = Oid::hash_object(ObjectType::Blob, &content).expect("any bytes have a hash");
            see(&path, format!("{mode:o} {id}"));
        }
    }
}
