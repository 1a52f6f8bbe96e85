//! Worktrees on real repositories. Overlays are mounted for real where the machine lets an ordinary process do so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use swarm_protocol::WorktreeSpec;

use super::*;
use crate::git_fixture::{Fixture, git, put};
use crate::worktree::Worktree;

/// A repository with a state folder and settings.
pub(super) struct Scene {
    pub fixture: Fixture,
    pub repository: Arc<Repository>,
    pub state: StateDir,
}

/// Options of the worker's own mount.
const MOUNT: &str = "userxattr,index=off,xino=off,metacopy=off";

impl Scene {
    pub fn new(files: &[(&str, &str)]) -> Scene {
        let fixture = Fixture::with_files(files);
        let repository = Arc::new(fixture.repository());
        let state = StateDir::open(&repository.common_dir().join("swarm")).expect("a state folder");
        Scene { fixture, repository, state }
    }

    pub fn bases(&self, backend: Backend, change: impl FnOnce(&mut BaseSettings)) -> Bases {
        let mut settings =
            BaseSettings { backend, objects: ObjectsAt::Host, sparse: Vec::new(), copy: Vec::new(), cache: Vec::new() };
        change(&mut settings);
        Bases::new(Arc::clone(&self.repository), self.state.clone(), settings).expect("settings of the test")
    }

    fn layers(&self, backend: Backend) -> Layers {
        let head = self.repository.resolve("HEAD").expect("a commit");
        self.bases(backend, |_| {}).prepare(head).expect("a base")
    }

    pub fn worktree(&self, layers: &Layers, backend: Backend) -> Worktree {
        let at = self.repository.place();
        Worktree::provision(&self.state, layers, "runs/r/t/1", at, backend, None).expect("a worktree")
    }
}

/// Runs a shell script in a worktree, as the worker would see it but without a cage. `None` (with the reason printed) where
/// no overlay can be mounted.
pub(crate) fn run_in(worktree: &Worktree, script: &str) -> Option<String> {
    let (mount, cwd) = match &worktree.spec {
        WorktreeSpec::Directory { path, .. } => (String::new(), path.clone()),
        WorktreeSpec::Overlay { at, state, lowers, upper, work } => {
            let target = state.join("mounted").join(upper);
            std::fs::create_dir_all(&target).expect("a mount point");
            let options = format!("{MOUNT},lowerdir={},upperdir={upper},workdir={work}", lowers.join(":"));
            // With objects at their host paths, the tree is mounted beside the checkout, which holds them.
            let bound = worktree.grants.iter().any(|grant| grant.at != grant.path);
            let target = if bound { at.clone() } else { target };
            let binds: String = if bound { bind_script(&worktree.grants) } else { String::new() };
            let (state, target) = (state.display(), target.display());
            (
                format!("{binds}cd '{state}' && mount -t overlay overlay -o {options} '{target}' && cd '{target}' && "),
                "/".into(),
            )
        }
    };
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-euc", &format!("{mount}{script}")]).current_dir(cwd);
    let output = match command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null").output() {
        Err(error) => {
            swarm_protocol::skipped::say(format_args!("unshare cannot be started: {error}"));
            return None;
        }
        Ok(output) => output,
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && (errors.contains("unshare failed") || errors.starts_with("mount:")) {
        swarm_protocol::skipped::say(format_args!("no overlay in a user namespace here: {errors}"));
        return None;
    }
    assert!(output.status.success(), "{script}: {errors}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Shows what the grants say, read-only, below a `/run` of its own.
fn bind_script(grants: &[Grant]) -> String {
    let binds = grants.iter().map(|grant| {
        let (path, at) = (grant.path.display(), grant.at.display());
        format!("[ -e '{at}' ] || mkdir -p '{at}'; mount --bind '{path}' '{at}'; mount -o remount,bind,ro '{at}'; ")
    });
    format!("mount -t tmpfs tmpfs /run; {}", binds.collect::<String>())
}

pub(super) const BACKENDS: [Backend; 2] = [Backend::Overlay, Backend::Copy];

fn files() -> Vec<(&'static str, &'static str)> {
    vec![
        ("README", "hello\r\n"),
        ("bin/tool", "#!/bin/sh\n"),
        ("link", "->README"),
        ("a/b/c", "1"),
        (".gitattributes", "* text=auto\n"),
        (".gitignore", "target/\n*.o\n"),
    ]
}

#[test]
fn a_fresh_worktree_is_clean_and_equal_to_the_commit() {
    for backend in BACKENDS {
        let scene = Scene::new(&files());
        let worktree = scene.worktree(&scene.layers(backend), backend);
        let script = "git status --porcelain; git log -1 --format=%s; git rev-parse --abbrev-ref HEAD; git branch \
                      --format='%(refname)'; git ls-files | wc -l; cat bin/tool; readlink link; test -x bin/tool";
        let Some(output) = run_in(&worktree, script) else { continue };
        let expected = "fixture\nwork\nrefs/heads/main\nrefs/heads/work\n6\n#!/bin/sh\nREADME\n";
        assert_eq!(output, expected, "{backend:?}");
    }
}

#[test]
fn status_opens_no_tracked_file() {
    for backend in BACKENDS {
        let scene = Scene::new(&files());
        let worktree = scene.worktree(&scene.layers(backend), backend);
        if Command::new("strace").arg("-V").output().is_err() {
            swarm_protocol::skipped::say("strace is not installed");
            return;
        }
        let script =
            "strace -f -e trace=openat,open,openat2 -o ../trace git status --porcelain; cat ../trace; rm ../trace";
        let Some(trace) = run_in(&worktree, script) else { continue };
        assert!(trace.contains(".git/index"), "the trace shows what is opened:\n{trace}");
        for file in ["README\"", "bin/tool\"", "a/b/c\""] {
            assert!(!trace.contains(file), "{backend:?} opened {file}:\n{trace}");
        }
    }
}

#[test]
fn git_works_inside_and_the_repository_stays_as_it_is() {
    for backend in BACKENDS {
        let scene = Scene::new(&files());
        let worktree = scene.worktree(&scene.layers(backend), backend);
        let before = snapshot(scene.repository.common_dir());
        let script = "echo x > README; git stash -q; git stash pop -q; git add -A; git commit -qm one; \
                      git switch -qc side; git rm -q a/b/c; git commit -qm two; git switch -q work; git branch -D side -q; \
                      git gc -q --prune=now; git fsck --strict; git log --oneline | wc -l; git status --porcelain";
        let Some(output) = run_in(&worktree, script) else { continue };
        assert_eq!(output, "2\n", "{backend:?}");
        assert_eq!(snapshot(scene.repository.common_dir()), before, "{backend:?}");
    }
}

#[test]
fn git_works_at_the_repositorys_own_path_with_its_objects_bound_elsewhere() {
    let source = Fixture::with_files(&files());
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Alternates of alternates: the store's own list names host paths that mean nothing inside.
    git(folder.path(), &["clone", "-q", "--shared", source.path().to_str().expect("a plain path"), "clone"]);
    git(
        &folder.path().join("clone"),
        &["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "own"],
    );
    let repository = Arc::new(Repository::open(&folder.path().join("clone")).expect("a clone"));
    let state = StateDir::open(&repository.common_dir().join("swarm")).expect("a state folder");
    let settings = BaseSettings {
        backend: Backend::Overlay,
        objects: ObjectsAt::Bound("/run/swarm/objects".into()),
        sparse: Vec::new(),
        copy: Vec::new(),
        cache: Vec::new(),
    };
    let bases = Bases::new(Arc::clone(&repository), state.clone(), settings).expect("settings of the test");
    let layers = bases.prepare(repository.resolve("HEAD").expect("a commit")).expect("a base");
    let worktree = Worktree::provision(&state, &layers, "runs/r/t/1", repository.place(), Backend::Overlay, None);
    let worktree = worktree.expect("a worktree");
    let before = snapshot(repository.common_dir());
    let script = "pwd; git status --porcelain; echo x > README; git add -A; git commit -qm one; git stash list; \
                  git gc -q --prune=now; git fsck --strict 2>&1; git log --format=%s; cat .git/HEAD; ls .git/swarm 2>&1 || true; \
                  touch /run/swarm/objects/0/x 2>/dev/null || echo read-only";
    let Some(output) = run_in(&worktree, script) else { return };
    let place = repository.place().display();
    let expected = format!(
        "{place}\none\nown\nfixture\nref: refs/heads/work\nls: cannot access '.git/swarm': No such file or directory\nread-only\n"
    );
    assert_eq!(output, expected);
    assert_eq!(snapshot(repository.common_dir()), before);
}

#[test]
fn a_second_run_reuses_the_base() {
    let scene = Scene::new(&files());
    let first = scene.layers(Backend::Overlay);
    let base = scene.state.path(first.lowers().last().expect("a base"));
    let before = std::fs::metadata(&base).expect("it is there").modified().expect("a time");
    assert_eq!(scene.layers(Backend::Overlay), first);
    assert_eq!(std::fs::metadata(&base).expect("it is there").modified().expect("a time"), before);
}

#[test]
fn a_half_made_base_is_made_again() {
    let scene = Scene::new(&files());
    let layers = scene.layers(Backend::Overlay);
    let base = scene.state.path(layers.lowers().last().expect("a base"));
    let layer = base.parent().expect("the layer's folder").to_owned();
    // As a process that was killed leaves it.
    std::fs::rename(&layer, layer.with_extension("tmp")).expect("renamed");
    std::fs::remove_file(layer.with_extension("tmp").join("ready")).expect("not ready");
    assert_eq!(scene.layers(Backend::Overlay), layers);
    assert!(base.join("README").exists() && !layer.with_extension("tmp").exists());
}

#[test]
fn what_a_base_is_called_nobody_can_tell_who_does_not_know_the_secret() {
    let scene = Scene::new(&files());
    let layers = scene.layers(Backend::Overlay);
    std::fs::write(scene.state.path("secret"), [7; 32]).expect("space");
    let others = scene.layers(Backend::Overlay);
    assert!(layers.lowers().iter().all(|layer| !others.lowers().contains(layer)), "{layers:?} {others:?}");
}

#[test]
fn a_base_of_an_earlier_boot_is_taken_as_it_was_made_or_not_at_all() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new(&files());
    let base = scene.state.path(scene.layers(Backend::Overlay).lowers().last().expect("a base"));
    let (file, ready) = (base.join("README"), base.with_file_name("ready"));
    let made = |file: &Path| std::fs::metadata(file).expect("it is there").created().expect("a time");
    let first = made(&file);
    std::fs::write(&ready, "another boot").expect("space");
    scene.layers(Backend::Overlay);
    assert_eq!(made(&file), first, "nobody touched it");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o777)).expect("ours");
    std::fs::write(&ready, "another boot").expect("space");
    scene.layers(Backend::Overlay);
    assert_ne!(made(&file), first);
    assert_eq!(std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o111, 0);
}

#[test]
fn concurrent_preparers_agree() {
    let scene = Scene::new(&files());
    let all: Vec<Layers> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..4).map(|_| scope.spawn(|| scene.layers(Backend::Overlay))).collect();
        started.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_file_that_the_checkout_holds_keeps_its_time() {
    let scene = Scene::new(&[("old", "1"), ("changed", "1")]);
    let at = |path: &str| scene.fixture.path().join(path);
    let day = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(86_400);
    for path in ["old", "changed"] {
        let file = std::fs::File::options().append(true).open(at(path)).expect("a file");
        file.set_modified(day).expect("a time");
    }
    git(scene.fixture.path(), &["update-index", "--refresh"]);
    std::fs::write(at("changed"), "2").expect("a file");
    let layers = scene.layers(Backend::Overlay);
    let base = scene.state.path(layers.lowers().last().expect("a base"));
    let time = |path: &str| base.join(path).metadata().expect("checked out").modified().expect("a time");
    assert_eq!(time("old"), day);
    assert_ne!(time("changed"), day);
}

#[test]
fn another_commit_is_a_delta_on_the_same_base() {
    for backend in BACKENDS {
        let scene =
            Scene::new(&[("keep", "1"), ("dir/a", "1"), ("dir/b", "2"), ("file", "3"), ("gone", "4"), ("x/y", "5")]);
        let bases = scene.bases(backend, |_| {});
        let base = bases.prepare(scene.repository.resolve("HEAD").expect("a commit")).expect("a base");
        for gone in ["dir", "gone", "file", "x"] {
            git(scene.fixture.path(), &["rm", "-rq", gone]);
        }
        let next = scene.fixture.commit(&[("dir", "now a file"), ("file/inner", "now a folder"), ("x/z", "#!new")]);
        let layers = bases.derive(&base, next).expect("a delta");
        assert_eq!(layers.lowers().last(), base.lowers().last());
        let worktree = scene.worktree(&layers, backend);
        let script =
            "git status --porcelain; git ls-files; find . -path ./.git -prune -o -type f -print | sort; git fsck";
        let Some(output) = run_in(&worktree, script) else { continue };
        let expected = "dir\nfile/inner\nkeep\nx/z\n./dir\n./file/inner\n./keep\n./x/z\n";
        assert_eq!(output, expected, "{backend:?}");
    }
}

#[test]
fn a_sparse_worktree_holds_the_rest_as_unchanged() {
    for backend in BACKENDS {
        let scene = Scene::new(&[("a/x", "1"), ("b/y", "2")]);
        let bases = scene.bases(backend, |settings| settings.sparse = vec!["a/**".into()]);
        let layers = bases.prepare(scene.repository.resolve("HEAD").expect("a commit")).expect("a base");
        let worktree = scene.worktree(&layers, backend);
        let Some(output) = run_in(&worktree, "git status --porcelain; ls; git ls-files -t") else { continue };
        assert_eq!(output, "a\nH a/x\nS b/y\n", "{backend:?}");
    }
}

#[test]
fn copied_files_are_there_with_their_links_and_what_a_link_leads_to_is_refused() {
    let scene = Scene::new(&[("a", "1"), (".gitignore", ".env\n")]);
    put(&scene.fixture.path().join(".env"), "SECRET=1");
    put(&scene.fixture.path().join("out"), "->/etc");
    put(&scene.fixture.path().join("sub/.git"), "gitdir: ../.git/modules/sub");
    put(&scene.fixture.path().join("sub/lib/.git/config"), "[core]");
    put(&scene.fixture.path().join("sub/lib/b"), "2");
    put(&scene.fixture.path().join("sub/lib/l"), "->/etc");
    let head = scene.repository.resolve("HEAD").expect("a commit");
    for backend in BACKENDS {
        let copy = |settings: &mut BaseSettings| settings.copy = [".env", "missing", "sub"].map(str::to_owned).into();
        let layers = scene.bases(backend, copy).prepare(head).expect("a base");
        let worktree = scene.worktree(&layers, backend);
        let Some(output) = run_in(&worktree, "cat .env; ls -A sub sub/lib; readlink sub/lib/l; git status --porcelain")
        else {
            continue;
        };
        assert_eq!(output, "SECRET=1sub:\nlib\n\nsub/lib:\nb\nl\n/etc\n?? sub/\n", "{backend:?}");
    }
    for entry in ["out", "out/passwd", "../x", "/etc/passwd", ".git/config"] {
        let bases = scene.bases(Backend::Overlay, |settings| settings.copy = vec![entry.into()]);
        assert!(matches!(bases.prepare(head), Err(BaseError::Copy { .. })), "{entry}");
    }
}

#[test]
fn a_cache_is_an_ignored_folder_without_tracked_files() {
    let scene = Scene::new(&[("src/a", "1"), (".gitignore", "target/\n")]);
    put(&scene.fixture.path().join("target/x"), "built");
    put(&scene.fixture.path().join("plain/x"), "not ignored");
    let head = scene.repository.resolve("HEAD").expect("a commit");
    let caches = |entry: &str| scene.bases(Backend::Copy, |all| all.cache = vec![entry.into()]).prepare(head);
    let layers = caches("target").expect("a cache");
    assert_eq!(layers.caches, [PathBuf::from("target")]);
    let worktree = scene.worktree(&layers, Backend::Copy);
    assert!(worktree.written_dir().join("target/x").exists());
    for none_yet in ["missing", "src/a/none"] {
        assert!(caches(none_yet).expect("none yet").caches.is_empty());
    }
    std::os::unix::fs::symlink("loop", scene.fixture.path().join("loop")).expect("a link to itself");
    assert!(matches!(caches("loop/target"), Err(BaseError::Io { .. })), "nobody knows what lies there");
    for entry in ["src", "plain", "src/a", "../x"] {
        assert!(matches!(caches(entry), Err(BaseError::Copy { .. })), "{entry}");
    }
}

#[test]
fn what_setup_made_is_under_all_worktrees() {
    for backend in BACKENDS {
        let scene = Scene::new(&[("a", "1"), (".gitignore", "node_modules/\n")]);
        let bases = scene.bases(backend, |_| {});
        let base = bases.prepare(scene.repository.resolve("HEAD").expect("a commit")).expect("a base");
        assert_eq!(bases.known_setup(&base, &[b"npm ci"]), None);
        let worktree = scene.worktree(&base, backend);
        let script = "mkdir node_modules; echo m > node_modules/m; echo changed > a; rm -f .gitignore; git add -A";
        if run_in(&worktree, script).is_none() {
            continue;
        }
        let layers = bases.adopt_setup_layer(&base, &[b"npm ci"], worktree).expect("a layer");
        assert_eq!(bases.known_setup(&base, &[b"npm ci"]).as_ref(), Some(&layers));
        let worktree = scene.worktree(&layers, backend);
        let output = run_in(&worktree, "cat node_modules/m a; git status --porcelain").expect("as before");
        assert_eq!(output, "m\n1", "{backend:?}");
    }
}

#[test]
fn setup_cannot_put_other_files_under_tracked_names() {
    for backend in BACKENDS {
        let scene =
            Scene::new(&[("tests/check", "real"), ("a", "1"), ("link/x", "2"), (".gitignore", "node_modules/\n")]);
        let bases = scene.bases(backend, |_| {});
        let base = scene.layers(backend);
        let worktree = scene.worktree(&base, backend);
        let script = "mkdir -p node_modules; echo poisoned > node_modules/check; rm -rf tests a link; \
                      ln -s node_modules tests; mkdir a; echo > a/x; echo > link; cat tests/check";
        let Some(output) = run_in(&worktree, script) else { continue };
        assert_eq!(output.trim(), "poisoned", "the attack works where it is made");
        let layers = bases.adopt_setup_layer(&base, &[b"hostile"], worktree).expect("a layer");
        let worktree = scene.worktree(&layers, backend);
        let output = run_in(&worktree, "cat tests/check a link/x node_modules/check; git status --porcelain");
        assert_eq!(output.expect("as before"), "real12poisoned\n", "{backend:?}");
    }
}

#[test]
fn setup_cannot_put_a_link_where_a_submodule_or_its_folder_is() {
    for (backend, script) in BACKENDS.into_iter().flat_map(|backend| {
        let replaced = ["rm -rf vendor; ln -s made vendor", "rmdir vendor/lib; ln -s ../made vendor/lib"];
        replaced.map(|script| (backend, format!("mkdir made; echo poisoned > made/x; {script}")))
    }) {
        let scene = Scene::new(&[("a", "1"), (".gitignore", "made/\n")]);
        let git = git2::Repository::open(scene.fixture.path()).expect("a repository");
        let head = git.head().and_then(|head| head.peel_to_commit()).expect("a commit");
        let mut vendor = git.treebuilder(None).expect("a builder");
        vendor.insert("lib", head.id(), 0o160_000).expect("a name");
        let mut tree = git.treebuilder(Some(&head.tree().expect("a tree"))).expect("a builder");
        tree.insert("vendor", vendor.write().expect("space"), 0o040_000).expect("a name");
        let tree = git.find_tree(tree.write().expect("space")).expect("just made");
        let who = head.author();
        git.commit(Some("HEAD"), &who, &who, "a submodule", &tree, &[&head]).expect("space");
        let bases = scene.bases(backend, |_| {});
        let base = scene.layers(backend);
        let worktree = scene.worktree(&base, backend);
        if run_in(&worktree, &script).is_none() {
            continue;
        }
        let layers = bases.adopt_setup_layer(&base, &[b"hostile"], worktree).expect("a layer");
        let worktree = scene.worktree(&layers, backend);
        let seen = "test ! -L vendor && test ! -L vendor/lib && test -d vendor && cat made/x; ls vendor/lib";
        assert_eq!(run_in(&worktree, seen).expect("as before"), "poisoned\n", "{backend:?}: {script}");
    }
}

#[test]
fn a_link_in_the_way_of_a_cache_leads_nowhere() {
    let scene = Scene::new(&[("src/a", "1"), (".gitignore", "node/\n")]);
    put(&scene.fixture.path().join("node/.cache/ours"), "ours");
    let host = tempfile::tempdir().expect("a temporary folder");
    put(&host.path().join(".cache/kept"), "kept");
    let untouched = || {
        let names = std::fs::read_dir(host.path().join(".cache")).expect("it is there").count();
        names == 1 && std::fs::read(host.path().join(".cache/kept")).is_ok_and(|content| content == b"kept")
    };
    let bases = scene.bases(Backend::Copy, |all| all.cache = vec!["node/.cache".into()]);
    let base = bases.prepare(scene.repository.resolve("HEAD").expect("a commit")).expect("a base");
    // By `setup`.
    let worktree = scene.worktree(&base, Backend::Copy);
    let node = worktree.written_dir().join("node");
    assert!(node.join(".cache/ours").exists());
    crate::removal::remove_tree(&node).expect("removed");
    std::os::unix::fs::symlink(host.path(), &node).expect("a link");
    let adopted = bases.adopt_setup_layer(&base, &[b"hostile"], worktree);
    assert!(matches!(adopted, Err(BaseError::Setup { ref path, .. }) if path.as_os_str() == "node"), "{adopted:?}");
    assert!(untouched());
    // By the tree itself.
    std::fs::rename(scene.fixture.path().join("node"), scene.fixture.path().join("away")).expect("renamed");
    std::os::unix::fs::symlink(host.path(), scene.fixture.path().join("node")).expect("a link");
    git(scene.fixture.path(), &["add", "node"]);
    git(scene.fixture.path(), &["commit", "-qm", "a link"]);
    let layers = bases.derive(&base, scene.repository.resolve("HEAD").expect("a commit")).expect("layers");
    let place = scene.repository.place();
    let made = Worktree::provision(&scene.state, &layers, "runs/r/t/1", place, Backend::Copy, None);
    assert!(matches!(made, Err(BaseError::Cache { ref path, .. }) if path == Path::new("node")), "{made:?}");
    assert!(untouched());
}

#[test]
fn a_worktree_that_was_written_to_goes_as_a_whole() {
    for backend in BACKENDS {
        let scene = Scene::new(&files());
        let worktree = scene.worktree(&scene.layers(backend), backend);
        let folder = worktree.attempt_dir();
        std::fs::create_dir(worktree.written_dir().join("new")).expect("a folder");
        let _ = run_in(&worktree, "mkdir -p deep/er; chmod 0 deep; echo > new/er");
        assert!(worktree.remove().expect("renamed").is_none());
        assert!(!folder.exists());
        assert_eq!(std::fs::read_dir(scene.state.path("trash")).expect("the trash").count(), 0);
    }
}

#[test]
fn what_nobody_wrote_to_serves_the_next_worktree_and_remembers_nothing() {
    let scene = Scene::new(&files());
    let layers = scene.layers(Backend::Overlay);
    let worktree = scene.worktree(&layers, Backend::Overlay);
    let Some(_) = run_in(&worktree, "touch -d 2001-01-01 .; chmod 0700 .") else { return };
    let spare = worktree.remove().expect("renamed").expect("nothing was written");
    let next = "runs/r/other/1";
    let worktree =
        Worktree::provision(&scene.state, &layers, next, scene.repository.place(), Backend::Overlay, Some(spare));
    let worktree = worktree.expect("a worktree");
    let told =
        run_in(&worktree, "stat -c %a .; find . -maxdepth 0 -newermt 2002-01-01; git status --short; ls | wc -l");
    assert_eq!(told.expect("overlays can be mounted").lines().take(2).collect::<Vec<_>>(), ["755", "."]);
    assert!(worktree.remove().is_ok());
}

#[test]
fn hostile_names_of_a_repository_are_not_checked_out() {
    let scene = Scene::new(&[("a", "1")]);
    let handle = scene.repository.handle().expect("a handle");
    let odb = handle.odb().expect("its store");
    let blob = odb.write(git2::ObjectType::Blob, b"x").expect("a blob");
    for name in [&b".git"[..], b"..", b".GIT", b"a/b", b"git~1"] {
        let tree =
            tree::write(&odb, vec![(name.to_vec(), tree::Entry { mode: tree::FILE, id: blob })]).expect("a tree");
        let warm = WarmTimes::default();
        let (bounds, stop) = (&Bounds::default(), &AtomicBool::new(false));
        let repository = &scene.repository;
        let checkout = Checkout { repository, tree, sparse: None, warm: &warm, now_seconds: 0, bounds, stop };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let result = checkout.write(folder.path());
        assert!(matches!(result, Err(BaseError::HostileName { .. })), "{}", name.escape_ascii());
    }
}

/// Every file below, but for what is ours, with a hash of its content.
fn snapshot(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.ends_with("swarm") {
                continue;
            }
            if entry.is_dir() {
                pending.push(entry);
            } else {
                let content = std::fs::read(&entry).expect("a file");
                found.push((entry, blake3::hash(&content).to_hex().to_string()));
            }
        }
    }
    found.sort();
    found
}

/// A worktree of the repository at `path` holds what its HEAD says.
fn check_repository(path: &Path, expected: &str) {
    let repository = Arc::new(Repository::open(path).expect("a repository"));
    let state = StateDir::open(&repository.common_dir().join("swarm")).expect("a state folder");
    let settings = BaseSettings {
        backend: Backend::Overlay,
        objects: ObjectsAt::Host,
        sparse: Vec::new(),
        copy: vec![".env".into()],
        cache: vec!["target".into()],
    };
    let bases = Bases::new(Arc::clone(&repository), state.clone(), settings).expect("settings of the test");
    let layers = bases.prepare(repository.resolve("HEAD").expect("a commit")).expect("a base");
    let worktree = Worktree::provision(&state, &layers, "runs/r/t/1", repository.place(), Backend::Overlay, None);
    let script = "git status --porcelain; ls; git log --format=%s; git branch --format='%(refname:short)'";
    if let Some(output) = run_in(&worktree.expect("a worktree"), script) {
        assert_eq!(output, expected, "{}", path.display());
    }
}

#[test]
fn every_kind_of_repository_gives_a_worktree() {
    let fixture = Fixture::with_files(&[("a", "1")]);
    fixture.commit(&[("b", "2")]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().canonicalize().expect("it exists").join(name);
    let url = format!("file://{}", fixture.path().display());
    let into = |name: &str| at(name).to_str().expect("a plain path").to_owned();
    git(folder.path(), &["clone", "-q", "--bare", &url, &into("bare")]);
    check_repository(&at("bare"), "a\nb\nfixture\nfixture\nmain\nwork\n");
    git(folder.path(), &["clone", "-q", "--depth=1", &url, &into("shallow")]);
    check_repository(&at("shallow"), "a\nb\nfixture\nmain\nwork\n");
    git(fixture.path(), &["worktree", "add", "-q", "-b", "side", &into("linked")]);
    check_repository(&at("linked"), "a\nb\nfixture\nfixture\nside\nwork\n");
    git(fixture.path(), &["switch", "-q", "--detach", "HEAD~1"]);
    check_repository(fixture.path(), "a\nfixture\nwork\n");
}

#[test]
fn a_blob_that_a_partial_clone_lacks_is_named() {
    let fixture = Fixture::with_files(&[("a/b", "1")]);
    git(fixture.path(), &["config", "uploadpack.allowFilter", "true"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("file://{}", fixture.path().display());
    git(folder.path(), &["clone", "-q", "--no-checkout", "--filter=blob:none", &url, "partial"]);
    let repository = Arc::new(Repository::open(&folder.path().join("partial")).expect("a clone"));
    assert_eq!(repository.standing().expect("facts").objects, crate::repository::Objects::Partial);
    let state = StateDir::open(&repository.common_dir().join("swarm")).expect("a state folder");
    let settings = BaseSettings {
        backend: Backend::Overlay,
        objects: ObjectsAt::Host,
        sparse: Vec::new(),
        copy: Vec::new(),
        cache: Vec::new(),
    };
    let bases = Bases::new(Arc::clone(&repository), state.clone(), settings).expect("settings of the test");
    let error = bases.prepare(repository.resolve("HEAD").expect("a commit")).expect_err("a blob is missing");
    assert!(matches!(error, BaseError::MissingObject { ref path, .. } if path == b"a/b"), "{error}");
    let left = std::fs::read_dir(state.path("bases"))
        .expect("a folder")
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_dir()));
    assert_eq!(left.count(), 0, "nothing half made is left");
}

#[test]
fn a_blob_that_a_whole_repository_lacks_is_lost() {
    let scene = Scene::new(&[("a/b", "1")]);
    let git = scene.repository.handle().expect("a repository");
    let id = git.revparse_single("HEAD:a/b").expect("a blob").id();
    drop(git);
    let name = id.to_string();
    let (folder, file) = name.split_at(2);
    std::fs::remove_file(scene.repository.common_dir().join("objects").join(folder).join(file)).expect("it is loose");
    let bases = scene.bases(Backend::Overlay, |_| {});
    let error = bases.prepare(scene.repository.resolve("HEAD").expect("a commit")).expect_err("a blob is missing");
    assert!(matches!(error, BaseError::LostObject { ref path, id: lost } if path == b"a/b" && lost == id), "{error}");
    assert!(!error.to_string().contains("partial"), "{error}");
}

#[test]
fn clearing_removes_what_was_prepared_and_the_next_run_makes_it_again() {
    let scene = Scene::new(&files());
    let layers = scene.layers(Backend::Overlay);
    assert!(published::clear_prepared(&scene.state).expect("removed") >= 2);
    assert!(!scene.state.path(layers.lowers().last().expect("a base")).exists());
    assert_eq!(scene.layers(Backend::Overlay), layers);
}

/// A commit of a tree that stands `width` times in itself, `depth` times over.
fn bomb(scene: &Scene, width: usize, depth: usize) -> Oid {
    let git = scene.repository.handle().expect("a repository");
    let odb = git.odb().expect("objects");
    let blob = tree::Entry { mode: tree::FILE, id: git.blob(b"x").expect("space") };
    let names = || (0..width).map(|n| format!("{n:03}").into_bytes());
    let mut id = tree::write(&odb, names().map(|name| (name, blob)).collect()).expect("space");
    for _ in 0..depth {
        let entry = tree::Entry { mode: tree::DIRECTORY, id };
        id = tree::write(&odb, names().map(|name| (name, entry)).collect()).expect("space");
    }
    let who = git2::Signature::now("h", "h@example.org").expect("legal");
    let tree = git.find_tree(id).expect("just written");
    git.commit(None, &who, &who, "bomb", &tree, &[]).expect("space")
}

#[test]
fn a_tree_of_more_files_than_a_base_may_have_is_refused_before_it_is_laid_out() {
    let scene = Scene::new(&[("a", "1")]);
    let bases = scene.bases(Backend::Copy, |_| {});
    let commit = bomb(&scene, 100, 9);
    let refused = bases.prepare(commit).expect_err("it has 10^20 files").to_string();
    let tree = scene.repository.tree_of(commit).expect("a tree").to_string();
    assert!(refused.contains(&tree) && refused.contains("at most 4000000"), "{refused}");
    let deep = bases.prepare(bomb(&scene, 1, 300)).expect_err("it is too deep").to_string();
    assert!(deep.contains("folders inside each other") && deep.contains("at most 256"), "{deep}");
    let left: Vec<_> = std::fs::read_dir(scene.state.path("bases")).expect("a folder").collect();
    assert!(left.iter().all(|entry| !entry.as_ref().expect("readable").path().is_dir()), "nothing half made: {left:?}");
    assert!(bases.prepare(bomb(&scene, 3, 2)).is_ok(), "the control is small");
}

#[test]
fn bytes_are_counted_while_they_are_written() {
    let scene = Scene::new(&[("a", "12345"), ("b", "12345"), ("c", "12345")]);
    let tree = scene.repository.tree_of(scene.repository.resolve("HEAD").expect("a commit")).expect("a tree");
    let (warm, stop) = (WarmTimes::default(), AtomicBool::new(false));
    let write = |bytes: u64| {
        let folder = tempfile::tempdir().expect("a folder");
        let bounds = &Bounds { bytes, ..Bounds::default() };
        let (repository, stop) = (&scene.repository, &stop);
        Checkout { repository, tree, sparse: None, warm: &warm, now_seconds: 0, bounds, stop }.write(folder.path())
    };
    assert!(write(15).is_ok());
    assert!(matches!(write(14), Err(BaseError::TooLarge { max: 14, .. })));
}

#[test]
fn a_checkout_that_is_stopped_leaves_nothing_half_made() {
    let scene = Scene::new(&[("a", "1")]);
    let bases = scene.bases(Backend::Copy, |_| {});
    let head = scene.repository.resolve("HEAD").expect("a commit");
    bases.stop().store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(bases.prepare(head), Err(BaseError::Stopped)));
    bases.stop().store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(bases.prepare(head).is_ok());
}
