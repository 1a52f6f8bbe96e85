//! Worktrees that workers left, honest and hostile, in both backends.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::base::git_dir::ObjectsAt;
use crate::base::{BaseSettings, Bases};
use crate::git_fixture::{Fixture, git, put};
use crate::repository::Repository;
use crate::state::StateDir;
use crate::worktree::{Backend, Worktree};

const BACKENDS: [Backend; 2] = [Backend::Overlay, Backend::Copy];

struct Scene {
    fixture: Fixture,
    repository: Arc<Repository>,
    worktree: Worktree,
}

fn scene(backend: Backend, files: &[(&str, &str)], copy: &[&str]) -> Scene {
    sparse_scene(backend, files, copy, &[])
}

fn sparse_scene(backend: Backend, files: &[(&str, &str)], copy: &[&str], sparse: &[&str]) -> Scene {
    let fixture = Fixture::with_files(files);
    for path in copy {
        put(&fixture.path().join(path), "copied");
    }
    let repository = Arc::new(fixture.repository());
    let state = StateDir::open(&repository.common_dir().join("swarm")).expect("a state folder");
    let copy = copy.iter().map(|&path| path.to_owned()).collect();
    let sparse = sparse.iter().map(|&glob| glob.to_owned()).collect();
    let settings = BaseSettings { backend, objects: ObjectsAt::Host, sparse, copy, cache: Vec::new() };
    let bases = Bases::new(Arc::clone(&repository), state.clone(), settings).expect("settings of the test");
    let layers = bases.prepare(repository.resolve("HEAD").expect("a commit")).expect("a base");
    let worktree =
        Worktree::provision(&state, &layers, "runs/r/t/1", repository.place(), backend, None).expect("a worktree");
    Scene { fixture, repository, worktree }
}

impl Scene {
    fn collect(&self, writes: Option<&[&str]>, limits: &CollectLimits) -> Collected {
        let writes: Option<Vec<String>> = writes.map(|all| all.iter().map(|&glob| glob.to_owned()).collect());
        let terms = Terms { limits: limits.clone(), ..Terms::default() };
        collect(&self.repository, &self.worktree, writes.as_deref(), &terms).expect("nothing of ours fails")
    }

    /// The change as `git diff` names it.
    fn diff(&self) -> String {
        match self.collect(None, &CollectLimits::default()) {
            Collected::Refused(refusal) => panic!("refused: {refusal:?}"),
            Collected::Change(change) => {
                let (old, new) = (change.base_tree.to_string(), change.tree.to_string());
                git(self.fixture.path(), &["fsck", "--strict", "--no-dangling", &new]);
                let diff = ["diff", "--no-renames", "--raw", "--abbrev=1", &old, &new];
                let lines = git(self.fixture.path(), &diff);
                let short = |line: &str| {
                    let (modes, path) = line.split_once('\t').expect("a raw line has a tab");
                    let fields: Vec<&str> = modes.split(' ').collect();
                    format!("{} {} {path}\n", fields[4], fields[1])
                };
                let named = lines.lines().map(short).collect();
                let names: String = git(self.fixture.path(), &["diff", "--no-renames", "--name-only", &old, &new]);
                assert_eq!(names.lines().count(), change.paths.len(), "the paths of the change are those of git");
                named
            }
        }
    }
}

const FILES: [(&str, &str); 7] = [
    ("README", "hello"),
    ("bin/tool", "#!/bin/sh"),
    ("dir/a", "1"),
    ("dir/sub/b", "2"),
    ("link", "->README"),
    ("out", "->/etc/passwd"),
    (".gitignore", "*.o\nbuild/\n"),
];

/// Runs a script as a worker would and compares the change with `expected`, in both backends.
fn check(script: &str, expected: &str) {
    for backend in BACKENDS {
        let scene = scene(backend, &FILES, &[]);
        if crate::base::tests::run_in(&scene.worktree, script).is_some() {
            assert_eq!(scene.diff(), expected, "{backend:?}: {script}");
        }
    }
}

#[test]
fn an_untouched_worktree_is_no_change() {
    check("git status >/dev/null; cat README >/dev/null", "");
}

#[test]
fn edits_additions_and_removals_are_found() {
    check(
        "echo x > README; mkdir -p new/er; echo y > new/er/file; rm dir/a",
        "M 100644 README\nD 000000 dir/a\nA 100644 new/er/file\n",
    );
}

#[test]
fn a_touched_or_rewritten_file_is_no_change() {
    check("touch README; printf 1 > dir/a; chmod 600 dir/sub/b; chmod 700 bin/tool", "");
}

#[test]
fn only_the_executable_bit_of_a_mode_counts() {
    check("chmod 4777 README; chmod 644 bin/tool", "M 100755 README\nM 100644 bin/tool\n");
}

/// Says something for an ordinary user only: root reads everything.
#[test]
fn locked_folders_are_read_all_the_same() {
    check(
        "mkdir -p n/m; echo 1 > n/m/o; echo 2 > dir/a; chmod 444 n/m; chmod 000 n; chmod 111 dir; chmod 000 .",
        "M 100644 dir/a\nA 100644 n/m/o\n",
    );
}

#[test]
fn a_removed_folder_is_all_its_files() {
    check("rm -r dir", "D 000000 dir/a\nD 000000 dir/sub/b\n");
}

#[test]
fn a_folder_made_anew_holds_only_what_is_new() {
    check("rm -r dir; mkdir -p dir; echo z > dir/c", "D 000000 dir/a\nA 100644 dir/c\nD 000000 dir/sub/b\n");
    check("rm -r dir; mkdir -p dir/sub; echo 9 > dir/sub/b", "D 000000 dir/a\nM 100644 dir/sub/b\n");
}

#[test]
fn what_is_gone_deep_inside_a_folder_made_anew_is_found() {
    // The inner folder is not marked itself: the one above it hides the layers below both.
    check("mv dir n; git checkout -qf HEAD; rm -r n; rm dir/sub/b", "D 000000 dir/sub/b\n");
}

#[test]
fn files_and_folders_change_places() {
    check("rm -r dir; echo now > dir", "A 100644 dir\nD 000000 dir/a\nD 000000 dir/sub/b\n");
    check("rm README; mkdir README; echo in > README/file", "D 000000 README\nA 100644 README/file\n");
    check("rm README; ln -s dir README", "T 120000 README\n");
}

#[test]
fn a_renamed_folder_is_found_whole() {
    check("mv dir moved", "D 000000 dir/a\nD 000000 dir/sub/b\nA 100644 moved/a\nA 100644 moved/sub/b\n");
}

#[test]
fn a_removed_and_restored_file_is_no_change() {
    check("rm dir/a; printf 1 > dir/a; mv dir/sub dir/s; mv dir/s dir/sub", "");
}

#[test]
fn ignored_files_stay_out_and_tracked_ones_never() {
    check(
        "echo x > a.o; mkdir -p build/deep/.git; echo y > build/deep/file; echo '*' > build/.gitignore; echo z >> README",
        "M 100644 README\n",
    );
    check("echo 'README' >> .gitignore; echo x > README", "M 100644 .gitignore\nM 100644 README\n");
    check("echo '!keep.o' >> .gitignore; echo x > keep.o; echo y > other.o", "M 100644 .gitignore\nA 100644 keep.o\n");
    check("rm .gitignore; echo x > a.o", "D 000000 .gitignore\nA 100644 a.o\n");
}

#[test]
fn what_git_did_inside_does_not_matter() {
    check("echo x > README; git add -A; git commit -qm x; git gc -q; rm -rf .git", "M 100644 README\n");
    check("echo x > new; git add new; git commit -qm x; git reset -q --hard HEAD~1", "");
    check("rm -rf .git; echo 'gitdir: /etc' > .git; echo x > README", "M 100644 README\n");
}

#[test]
fn hard_links_and_odd_names_are_files() {
    check("ln README twin; printf n > 'a b;$(x)'", "A 100644 a b;$(x)\nA 100644 twin\n");
    check("printf n > \"$(printf 'f\\377')\"", "A 100644 \"f\\377\"\n");
}

#[test]
fn pipes_sockets_and_their_like_are_left_out() {
    check("mkfifo pipe; rm README; mkfifo README", "D 000000 README\n");
}

#[test]
fn locked_files_and_folders_are_read_all_the_same() {
    check("mkdir new; echo x > new/file; chmod 000 new/file; chmod 000 new", "A 100644 new/file\n");
}

#[test]
fn links_of_the_base_stay_and_new_ones_are_judged() {
    check("ln -s ../README dir/up; touch -h out", "A 120000 dir/up\n");
    check("mv out dir/away; cp -P dir/away too", "A 120000 dir/away\nD 000000 out\nA 120000 too\n");
}

/// The worktree must be refused with a reason that contains `expected`.
fn check_refused(script: &str, expected: &str) {
    for backend in BACKENDS {
        let scene = scene(backend, &FILES, &[]);
        if crate::base::tests::run_in(&scene.worktree, script).is_none() {
            continue;
        }
        match scene.collect(None, &CollectLimits::default()) {
            Collected::Refused(Refusal::Hostile { reason, .. }) => {
                assert!(reason.contains(expected), "{backend:?}: {script}: {reason}");
            }
            other => panic!("{backend:?}: {script}: {other:?}"),
        }
    }
}

#[test]
fn repositories_inside_are_refused() {
    check_refused("git init -q sub", "a repository inside");
    check_refused("git init -q --bare sub; rm -rf sub/hooks; touch sub/objects/k sub/refs/k", "git would obey");
    check_refused("mkdir sub; echo ref: refs/heads/x > sub/HEAD; echo ../dir > sub/commondir", "git would obey");
    check_refused("mkdir -p sub/.GIT; echo x > sub/.GIT/config", "a repository inside");
    check_refused("mkdir -p dir; echo 'gitdir: x' > dir/.git", "reads as .git");
    check_refused("mkdir -p 'git~1'; echo x > 'git~1/config'", "a repository inside");
    check_refused(
        "mkdir -p \"$(printf '.g\\342\\200\\214it')\"; echo x > \"$(printf '.g\\342\\200\\214it')/config\"",
        "inside",
    );
}

#[test]
fn links_out_of_the_tree_are_refused() {
    check_refused("ln -s /etc/hosts new", "absolute path: make it relative (ln -srf");
    check_refused("ln -s ../../x dir/new", "out of the tree");
    check_refused("ln -sf /etc/shadow out", "absolute");
    check_refused("ln -s .git/config new", "git directory");
    check_refused("rm .gitignore; ln -s README .gitignore", "steers git");
}

#[test]
fn modules_that_say_more_than_where_to_look_are_refused() {
    let modules = |name: &str, entry: &str| format!("printf '[submodule \"x\"]\\n\\t{entry}\\n' > {name}");
    check_refused(&modules(".gitmodules", "url = -u./payload"), "more than an address");
    check_refused(&modules("dir/.GitModules", "update = !touch evil"), "names a command");
    check_refused(&modules("gitmod~1", "path = ../../x"), "leaves the tree");
    check_refused("printf '[submodule \"../../x\"]\\n\\turl = x\\n' > .gitmodules", "leaves .git/modules");
    check(&modules(".gitmodules", "url = https://example.org/x.git"), "A 100644 .gitmodules\n");
}

#[test]
fn what_a_servers_fsck_would_refuse_is_refused_here() {
    let evil = "printf '[submodule \"../../x\"]\\n\\tupdate = !touch evil\\n'";
    for name in ["gi7eba~1", "'gi~12345'", "dir/GI7EB~10", "\"$(printf '.gitmodules\\377')\""] {
        check_refused(&format!("{evil} > {name}"), "leaves .git/modules");
        check_refused(&format!("ln -s README {name}"), "steers git");
    }
    check_refused("ln -s README dir/gi7d29~1; ln -s a dir/maba30~2", "steers git");
    check_refused("mkdir .gitmodules; echo x > .gitmodules/x", "a folder in the place of a file that steers git");
    check_refused("mkdir -p new/gitatt~1; echo x > new/gitatt~1/x", "a folder in the place of a file that steers git");
    let attributes = |bytes| format!("printf '%0{bytes}d' 0 > dir/.gitattributes");
    check_refused(&attributes(2048), "a line of more than 2,047 bytes");
    check(&attributes(2047), "A 100644 dir/.gitattributes\n");
}

#[test]
fn new_names_that_mislead_are_refused_and_those_of_the_base_are_its_own() {
    check_refused("printf n > 'a\nb'", "control character");
    check_refused("printf n > \"$(printf 'a\\033[31mb')\"", "control character");
    check_refused("mkdir -p 'a\tb'; echo x > 'a\tb/c'", "control character");
    check_refused("printf n > \"$(printf 'a\\302\\233b')\"", "control character");
    check_refused("printf n > 'dir\\a'", "backslash");
    for backend in BACKENDS {
        let scene = scene(backend, &[("a\nb/c", "1"), ("x\\y", "1")], &[]);
        let script = "echo 2 > 'a\nb/new'; echo 2 > 'x\\y'; rm 'a\nb/c'";
        if crate::base::tests::run_in(&scene.worktree, script).is_some() {
            let found = scene.collect(None, &CollectLimits::default());
            assert!(matches!(&found, Collected::Change(change) if change.paths.len() == 3), "{backend:?}: {found:?}");
        }
    }
}

#[test]
fn a_submodule_that_is_gone_is_told_of() {
    let gitlink = tree::Entry { mode: tree::GITLINK, id: Oid::ZERO_SHA1 };
    let file = tree::Entry { mode: tree::FILE, id: Oid::ZERO_SHA1 };
    let told = |old, new| {
        let one = tree::Difference { path: b"lib/x".to_vec(), old, new };
        gone_submodules(&[one]).collect::<Vec<_>>()
    };
    assert_eq!(told(Some(gitlink), None), ["the submodule lib/x is gone from the tree"]);
    assert_eq!(told(Some(gitlink), Some(file)), ["the submodule lib/x became a file"]);
    assert_eq!(told(Some(gitlink), Some(gitlink)), [""; 0]);
    assert_eq!(told(Some(file), None), [""; 0]);
}

#[test]
fn names_that_differ_in_case_only_are_refused() {
    check_refused("echo x > readme", "case");
    check_refused("mkdir DIR; echo x > DIR/y", "case");
}

fn check_limit(script: &str, change: impl Fn(&mut CollectLimits), expected: &str) {
    for backend in BACKENDS {
        let scene = scene(backend, &FILES, &[]);
        if crate::base::tests::run_in(&scene.worktree, script).is_none() {
            continue;
        }
        let mut limits = CollectLimits::default();
        change(&mut limits);
        match scene.collect(None, &limits) {
            Collected::Refused(Refusal::Limit { limit, .. }) => assert_eq!(limit, expected, "{backend:?}"),
            other => panic!("{backend:?}: {script}: {other:?}"),
        }
    }
}

#[test]
fn limits_are_named() {
    check_limit("echo x > a; echo y > b; echo z > c", |limits| limits.files = 2, "files");
    check_limit("truncate -s 1T sparse", |_| {}, "blob_bytes");
    check_limit("for i in 1 2 3; do head -c 1000 /dev/urandom > $i; done", |limits| limits.bytes = 2500, "bytes");
    check_limit("mkdir -p a/b/c/d; echo > a/b/c/d/e", |limits| limits.depth = 3, "depth");
    check_limit("touch 1 2 3 4 5 6 7 8 9 10 11 12 13", |limits| limits.entries = 12, "entries");
    check_limit(
        "for i in 1 2 3; do mkdir n$i; seq 20 > n$i/.gitignore; done",
        |limits| limits.ignore_rules = 50,
        "ignore_rules",
    );
    let nested = "for i in $(seq 38); do echo x$i > .gitignore; mkdir d; cd d; done; touch y";
    check_limit(nested, |_| {}, "ignore_bytes");
    check_limit("mkdir -p aaaa/bbbb; echo > aaaa/bbbb/cccc", |limits| limits.path_bytes = 12, "path_bytes");
    check_limit("touch dir/0001 dir/0002", |limits| limits.paths_bytes = 15, "paths_bytes");
    let slow = "seq 500 | sed 's/.*/*a*a*a*a*a*a*a*a*b&/' > .gitignore; seq -f a%0100.f 20 | xargs touch";
    check_limit(slow, |limits| limits.ignore_ms = 1, "ignore_ms");
    let slow = "seq 900 | sed 's/.*/[a]*a*a*a*b& filter=x/' > .gitattributes; seq -f a%0100.f 200 | xargs touch";
    check_limit(slow, |limits| limits.ignore_ms = 1, "ignore_ms");
}

#[test]
fn a_file_that_exceeds_what_is_kept_in_memory_is_stored_whole() {
    check(
        "head -c 6000000 /dev/zero > big; head -c 7000000 /dev/zero > dir/bigger",
        "A 100644 big\nA 100644 dir/bigger\n",
    );
}

#[test]
fn writes_are_enforced_on_every_kind_of_change() {
    for backend in BACKENDS {
        let scene = scene(backend, &FILES, &[]);
        if crate::base::tests::run_in(&scene.worktree, "rm dir/a; echo x > README; chmod +x dir/sub/b").is_none() {
            continue;
        }
        let limits = CollectLimits::default();
        let outside = |writes: &[&str]| match scene.collect(Some(writes), &limits) {
            Collected::Refused(Refusal::OutOfScope { paths, count }) => {
                assert_eq!(paths.len(), count);
                paths.iter().map(|path| display_path(path)).collect::<Vec<_>>().join(" ")
            }
            other => format!("{other:?}"),
        };
        assert_eq!(outside(&[]), "README dir/a dir/sub/b", "{backend:?}");
        assert_eq!(outside(&["dir/*"]), "README dir/sub/b");
        assert_eq!(outside(&["README", "dir/sub/**"]), "dir/a");
        assert!(matches!(scene.collect(Some(&["README", "dir/**"]), &limits), Collected::Change(_)));
    }
}

#[test]
fn copied_files_are_nobodys_change() {
    for backend in BACKENDS {
        let scene = scene(backend, &FILES, &["settings.env"]);
        if crate::base::tests::run_in(&scene.worktree, "echo mine > settings.env; echo x > README").is_some() {
            assert_eq!(scene.diff(), "M 100644 README\n", "{backend:?}");
        }
    }
}

#[test]
fn what_a_sparse_worktree_does_not_show_is_not_gone_with_what_it_shows() {
    let check = |script: &str, expected: &str| {
        for backend in BACKENDS {
            let scene = sparse_scene(backend, &FILES, &[], &["dir/a"]);
            if crate::base::tests::run_in(&scene.worktree, script).is_some() {
                assert_eq!(scene.diff(), expected, "{backend:?}: {script}");
            }
        }
    };
    check("rm -r dir", "D 000000 dir/a\n");
    check("mv dir old; mkdir dir; cp old/a dir/a; rm -r old", "");
    check("mv dir new", "D 000000 dir/a\nA 100644 new/a\n");
    for backend in BACKENDS {
        for script in ["rm -r dir; echo x > dir", "mkdir README; echo x > README/x"] {
            let scene = sparse_scene(backend, &FILES, &[], &["dir/a"]);
            if crate::base::tests::run_in(&scene.worktree, script).is_some() {
                let collected = scene.collect(None, &CollectLimits::default());
                assert!(matches!(collected, Collected::Refused(Refusal::Hostile { .. })), "{script}: {collected:?}");
            }
        }
    }
}

#[test]
fn what_is_written_over_a_file_that_a_sparse_worktree_does_not_show_is_said() {
    for backend in BACKENDS {
        let scene = sparse_scene(backend, &FILES, &[], &["dir/a"]);
        if crate::base::tests::run_in(&scene.worktree, "echo more >> README; echo new > fresh").is_some() {
            let collected = scene.collect(None, &CollectLimits::default());
            let Collected::Change(change) = collected else { panic!("{collected:?}") };
            assert_eq!(change.notes.len(), 1, "{:?}", change.notes);
            assert!(change.notes[0].starts_with("README was written without what it held"), "{:?}", change.notes);
        }
    }
}

#[test]
fn a_file_that_holds_a_secret_is_refused_by_its_name_unless_the_repository_tells_it_already() {
    const TOKEN: &str = "npm_5ecret/Val=ue";
    let known = format!("token={TOKEN}\n");
    let terms = Terms::without(&Secrets::new([("TOKEN", TOKEN)]));
    for backend in BACKENDS {
        for (script, refused) in [
            (format!("echo 'x {TOKEN} y' > dir/a"), Some("dir/a")),
            (format!("ln -s 'x{TOKEN}' new"), Some("new")),
            (format!("printf '%s' '{TOKEN}' | base64 > new"), Some("new")),
            ("echo more >> known; echo 2 > dir/a".to_owned(), None),
            ("cp known dir/a; echo npm_ > new".to_owned(), None),
        ] {
            let files = [&FILES[..], &[("known", known.as_str())]].concat();
            let scene = scene(backend, &files, &[]);
            if crate::base::tests::run_in(&scene.worktree, &script).is_none() {
                continue;
            }
            let collected = collect(&scene.repository, &scene.worktree, None, &terms).expect("nothing of ours fails");
            match (collected, refused) {
                (Collected::Change(_), None) => {}
                (Collected::Refused(Refusal::Hostile { path, reason }), Some(named)) => {
                    assert!(path == named.as_bytes() && reason.contains("the secret `TOKEN`"), "{script}: {reason}");
                    let kept = salvage(&scene.repository, &scene.worktree, &terms).expect("nothing of ours fails");
                    assert!(kept.is_none_or(|kept| kept.notes.iter().any(|note| note.contains(named))), "{script}");
                }
                (other, _) => panic!("{script}: {other:?}"),
            }
        }
    }
}

#[test]
fn of_a_refused_worktree_all_is_kept_but_what_is_refused() {
    let script = "echo work > work; echo 2 > dir/a; ln -s /etc/hosts new; ln -sf /etc/shadow link; git init -q sub; \
                  touch Case case; mkdir .GIT; touch .GIT/config; truncate -s 1T huge; echo > \"$(printf 'b\\\\ad\\n')\"";
    for backend in BACKENDS {
        let scene = scene(backend, &FILES, &[]);
        if crate::base::tests::run_in(&scene.worktree, script).is_none() {
            continue;
        }
        assert!(matches!(scene.collect(None, &CollectLimits::default()), Collected::Refused(_)));
        let kept = salvage(&scene.repository, &scene.worktree, &Terms::default()).expect("nothing of ours fails");
        let kept = kept.expect("there is something");
        let paths: Vec<String> = kept.paths.iter().map(|changed| display_path(&changed.path)).collect();
        assert_eq!(paths.len(), 3, "{backend:?}: {paths:?}");
        assert!(paths.contains(&"dir/a".to_owned()) && paths.contains(&"work".to_owned()), "{paths:?}");
        let notes = kept.notes.join("\n");
        for left_out in ["new", "link", "sub/.git", "ase", ".GIT", "huge", "ad"] {
            assert!(notes.contains(left_out), "{left_out}: {notes}");
        }
        git(scene.fixture.path(), &["fsck", "--strict", "--no-dangling", &kept.tree.to_string()]);
    }
}

#[test]
fn of_a_root_that_was_made_a_repository_all_work_is_kept() {
    let script =
        "echo work > work; git init -q --bare .x; rm -rf .x/hooks; touch .x/objects/k .x/refs/k; mv .x/* .; rmdir .x";
    check_refused(script, "the root of the tree a repository");
    for backend in BACKENDS {
        let scene = scene(backend, &FILES, &[]);
        if crate::base::tests::run_in(&scene.worktree, script).is_none() {
            continue;
        }
        let kept = salvage(&scene.repository, &scene.worktree, &Terms::default()).expect("nothing of ours fails");
        let paths = kept.expect("there is something").paths;
        let paths: Vec<String> = paths.iter().map(|changed| display_path(&changed.path)).collect();
        assert!(paths.contains(&"work".to_owned()) && !paths.contains(&"HEAD".to_owned()), "{backend:?}: {paths:?}");
    }
}

#[test]
fn of_many_names_that_collide_one_each_is_kept_and_the_rest_is_counted() {
    let script = "mkdir new; for i in $(seq 150); do echo > new/f$i; echo > new/F$i; done; echo > 'a\nb'";
    for backend in BACKENDS {
        let scene = scene(backend, &FILES, &[]);
        if crate::base::tests::run_in(&scene.worktree, script).is_none() {
            continue;
        }
        let kept = salvage(&scene.repository, &scene.worktree, &Terms::default()).expect("nothing of ours fails");
        let kept = kept.expect("there is something");
        assert_eq!(kept.paths.len(), 150, "{backend:?}");
        assert_eq!(kept.notes.len(), walk::NOTES_MAX + 1, "{backend:?}");
        assert_eq!(kept.notes.last().map(String::as_str), Some("left out for such reasons: 101 more"));
    }
}

#[test]
fn a_refused_worktree_leaves_no_blob_behind() {
    let scene = scene(Backend::Copy, &FILES, &[]);
    put(&scene.worktree.written_dir().join("README"), "a content that nothing else has");
    put(&scene.worktree.written_dir().join("new"), "->/etc/hosts");
    assert!(matches!(scene.collect(None, &CollectLimits::default()), Collected::Refused(_)));
    let id = Oid::hash_object(ObjectType::Blob, b"a content that nothing else has").expect("an id");
    let git = scene.repository.handle().expect("a handle");
    assert!(!git.odb().expect("its store").exists(id));
}

#[test]
fn a_sub_second_edit_of_equal_size_is_found() {
    // The worker sets back all that a program can set back.
    check(
        "touch -r README ../stamp; printf HELLO > README; touch -r ../stamp README; rm ../stamp",
        "M 100644 README\n",
    );
}

#[test]
fn a_link_in_the_artifacts_folder_leads_nowhere_else() {
    let scene = scene(Backend::Overlay, &FILES, &[]);
    if crate::base::tests::run_in(&scene.worktree, "mkdir -p build; echo mine > build/x").is_none() {
        return;
    }
    let out = scene.worktree.attempt_dir();
    let (to, outside) = (out.join("artifacts"), out.join("outside"));
    std::fs::create_dir_all(&to).expect("a folder");
    std::fs::create_dir_all(&outside).expect("a folder");
    std::fs::write(outside.join("x"), "precious").expect("a file");
    std::os::unix::fs::symlink(&outside, to.join("build")).expect("a link");
    let patterns = ["build/*".to_owned()];
    let take = || artifacts::take_artifacts(&scene.worktree, &patterns, (&out, "artifacts"), &CollectLimits::default());
    let taken = take();
    assert!(matches!(taken, Ok(artifacts::Taken::Refused(Refusal::Hostile { .. }))), "the worker's fault: {taken:?}");
    std::fs::remove_dir_all(&to).expect("it is ours");
    assert!(matches!(take(), Ok(artifacts::Taken::Refused(Refusal::Hostile { .. }))), "the folder is gone");
    std::fs::create_dir(outside.join("build")).expect("a folder");
    std::fs::write(outside.join("build/x"), "precious").expect("a file");
    std::os::unix::fs::symlink(&outside, &to).expect("a link");
    assert!(matches!(take(), Ok(artifacts::Taken::Refused(Refusal::Hostile { .. }))), "the folder is a link");
    assert_eq!(std::fs::read(outside.join("x")).expect("it is there"), b"precious");
    assert_eq!(std::fs::read(outside.join("build/x")).expect("it is there"), b"precious");
}

#[test]
fn what_a_worker_put_in_the_way_of_its_artifacts_is_its_own_fault() {
    let deep = "d=$(printf 'x%.0s' $(seq 200)); for i in $(seq 20); do mkdir $d; cd $d; done; \
                echo > $(printf 'y%.0s' $(seq 200))";
    for (script, in_the_way) in [
        ("mkdir a; echo > a/x", "touch artifacts/a"),
        ("mkdir a; echo > a/x", "mkdir -p artifacts/a/x/y"),
        ("mkdir a; echo > a/x", "ln -s loop artifacts/a; ln -s a artifacts/loop"),
        (deep, "true"),
    ] {
        let scene = scene(Backend::Overlay, &FILES, &[]);
        if crate::base::tests::run_in(&scene.worktree, script).is_none() {
            return;
        }
        let out = scene.worktree.attempt_dir();
        std::fs::create_dir(out.join("artifacts")).expect("a folder");
        let made = std::process::Command::new("sh").args(["-c", in_the_way]).current_dir(&out).status();
        assert!(made.expect("a shell").success());
        let globs = ["a/**".to_owned(), "xxx*/**".to_owned()];
        let taken = artifacts::take_artifacts(&scene.worktree, &globs, (&out, "artifacts"), &CollectLimits::default());
        assert!(matches!(taken, Ok(artifacts::Taken::Refused(_))), "{in_the_way}: {taken:?}");
    }
}

#[test]
fn holes_in_artifacts_stay_holes() {
    use std::os::unix::fs::MetadataExt as _;
    let scene = scene(Backend::Overlay, &FILES, &[]);
    let script = "mkdir a; printf head > a/x; truncate -s 500M a/x; printf middle >> a/x; truncate -s 1G a/x; \
                  truncate -s 100M a/hole; seq 100000 > a/whole; : > a/empty";
    if crate::base::tests::run_in(&scene.worktree, script).is_none() {
        return;
    }
    let out = scene.worktree.attempt_dir();
    std::fs::create_dir(out.join("artifacts")).expect("a folder");
    let globs = ["a/**".to_owned()];
    let taken = artifacts::take_artifacts(&scene.worktree, &globs, (&out, "artifacts"), &CollectLimits::default());
    assert!(matches!(taken, Ok(artifacts::Taken::Files(files)) if files.len() == 4));
    let (from, to) = (scene.worktree.written_dir(), out.join("artifacts"));
    for name in ["a/x", "a/hole", "a/whole", "a/empty"] {
        let same = std::process::Command::new("cmp").arg(from.join(name)).arg(to.join(name)).status();
        assert!(same.expect("cmp").success(), "{name}");
        let taken = to.join(name).metadata().expect("it is there").blocks();
        assert!(taken * 512 < 2 << 20, "{name} takes {taken} blocks");
    }
}

#[test]
fn a_path_of_the_kernels_whole_length_is_a_limit_and_no_failure_of_the_machine() {
    let script = "d=$(printf 'x%.0s' $(seq 200)); for i in $(seq 20); do mkdir $d; cd $d; done; \
                  head -c 5000000 /dev/urandom > $(printf 'y%.0s' $(seq 76))";
    check_limit(script, |_| {}, "path_bytes");
}

#[test]
fn names_that_people_take_for_others_are_found_and_spelled_out() {
    for (name, shown) in [
        ("invoice\u{202e}fdp.exe", Some("invoice\\u{202e}fdp.exe")),
        (".v\u{200b}scode/tasks.json", Some(".v\\u{200b}scode/tasks.json")),
        ("\u{3164}", Some("\\u{3164}")),
        ("gr\u{fc}n/\u{65e5}\u{672c} x", None),
    ] {
        assert_eq!(has_unseen_characters(name.as_bytes()), shown.is_some(), "{name:?}");
        assert_eq!(display_path(name.as_bytes()), shown.unwrap_or(name));
    }
}

#[test]
fn artifacts_are_copied_ignored_ones_too() {
    for backend in BACKENDS {
        let scene = scene(backend, &FILES, &[]);
        let script =
            "mkdir -p build/r; echo r > build/r/report.xml; ln -s /etc/passwd build/r/evil.xml; mkfifo build/r/p.xml";
        if crate::base::tests::run_in(&scene.worktree, script).is_none() {
            continue;
        }
        let out = scene.worktree.attempt_dir();
        let to = out.join("artifacts");
        std::fs::create_dir(&to).expect("a folder");
        let patterns = ["build/**/*.xml".to_owned()];
        let taken =
            artifacts::take_artifacts(&scene.worktree, &patterns, (&out, "artifacts"), &CollectLimits::default());
        assert_eq!(
            taken.expect("copied"),
            artifacts::Taken::Files(vec![b"build/r/report.xml".to_vec()]),
            "{backend:?}"
        );
        assert_eq!(std::fs::read(to.join("build/r/report.xml")).expect("it is there"), b"r\n");
        assert!(!Path::new(&to).join("build/r/evil.xml").exists());
    }
}

/// One step of a random worker, over few names so that steps meet.
fn step() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let name = || {
        proptest::sample::select(vec![
            "README",
            "dir",
            "dir/a",
            "dir/sub",
            "dir/sub/b",
            "n",
            "n/m",
            "n/m/o",
            "x.o",
            "bin",
        ])
    };
    prop_oneof![
        (name(), 0..3_u8).prop_map(|(path, text)| format!("mkdir -p \"$(dirname {path})\" && echo {text} > {path}")),
        name().prop_map(|path| format!("rm -rf {path}")),
        (name(), name()).prop_map(|(from, to)| format!("mv -T {from} {to}")),
        (name(), name()).prop_map(|(from, to)| format!("cp -rT {from} {to}")),
        name().prop_map(|path| format!("chmod u+x {path}")),
        name().prop_map(|path| format!("mkdir -p {path}")),
        name().prop_map(|path| format!("ln -sfT nowhere {path}")),
        (name(), 0..2_u8).prop_map(|(rule, negated)| {
            format!("echo '{}{rule}' >> .gitignore", if negated == 0 { "" } else { "!" })
        }),
        Just("git stash -q -u && git stash pop -q".to_owned()),
        Just("git checkout -q -f HEAD".to_owned()),
    ]
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
    /// Whatever a worker does, the collected tree is the one that git itself would add.
    #[test]
    fn what_is_collected_is_what_git_would_add(steps in proptest::collection::vec(step(), 1..12)) {
        for backend in BACKENDS {
            let scene = scene(backend, &FILES, &[]);
            // A fresh index of the base, so that what the worker staged does not matter.
            let steps: String = steps.iter().map(|step| format!("{{ {step}; }} >/dev/null 2>&1 || true\n")).collect();
            let script = format!(
                "{steps}export GIT_INDEX_FILE=.git/judge; git read-tree main; git add -A; git write-tree"
            );
            let Some(expected) = crate::base::tests::run_in(&scene.worktree, &script) else { return Ok(()) };
            match scene.collect(None, &CollectLimits::default()) {
                Collected::Change(change) => {
                    proptest::prop_assert_eq!(change.tree.to_string(), expected.trim_end(), "{:?}", backend);
                }
                Collected::Refused(refusal) => proptest::prop_assert!(false, "{:?}: {:?}", backend, refusal),
            }
        }
    }
}
