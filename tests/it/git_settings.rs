//! Repositories as people set them up: whatever their git is told, the same plan comes to the same tree and their checkout stays as it
//! is, or the run is refused with the next command.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use swarm_tests::{Ended, Repository, Swarm};

const PLAN: &str = "[tasks.edit]\nrun = 'echo more >> a.txt; printf \"x\\r\\n\" >> crlf.txt'\nwrites = ['*.txt']\n\
                    [tasks.make]\nneeds = ['edit']\nrun = 'mkdir -p new; cp a.txt new/copy.txt; ./tool.sh > new/said.txt; rm gone.txt'\n";

/// Text of both line ends, a program, a link, a folder.
fn repository() -> Repository {
    let files = [
        ("a.txt", "one\n"),
        ("crlf.txt", "a\r\nb\r\n"),
        ("gone.txt", "g\n"),
        ("dir/b.bin", "\0\r\n\u{1}"),
        ("dir/É.txt", "é\n"),
    ];
    let repository = Repository::with(&files);
    repository.write("tool.sh", "#!/bin/sh\necho said\n");
    fs::set_permissions(repository.path().join("tool.sh"), fs::Permissions::from_mode(0o755)).expect("ours");
    symlink("a.txt", repository.path().join("link")).expect("space");
    repository.commit_all("second\n");
    repository
}

/// What the plan comes to where git is told nothing.
fn undisturbed() -> git2::Oid {
    let repository = repository();
    Swarm::run(&repository, "it", PLAN).exits(0);
    repository.tree("swarm/it")
}

/// Runs the plan in the checkout, which has to stay as it is.
fn run(repository: &Repository, name: &str) -> Ended {
    let before = repository.freeze("swarm/it");
    let ended = Swarm::run(repository, "it", PLAN).end();
    let differences = before.differences(&repository.freeze("swarm/it"));
    assert_eq!(differences, Vec::<String>::new(), "{name}: {ended}");
    ended
}

fn comes_to(repository: &Repository, name: &str, expected: git2::Oid) {
    let ended = run(repository, name);
    assert_eq!(ended.code, 0, "{name}: {ended}");
    assert_eq!(repository.tree("swarm/it"), expected, "{name}");
    repository.run_git(&["fsck", "--connectivity-only"]);
}

#[test]
fn settings_of_a_person_s_git_change_no_tree() {
    let expected = undisturbed();
    let settings: &[&[(&str, &str)]] = &[
        &[("core.autocrlf", "true"), ("core.safecrlf", "true")],
        &[("core.autocrlf", "input"), ("core.eol", "crlf")],
        &[("core.ignorecase", "true"), ("core.precomposeunicode", "true")],
        &[("core.fileMode", "false")],
        &[("core.symlinks", "false")],
        &[("commit.gpgsign", "true"), ("user.signingkey", "none"), ("gpg.program", "/none"), ("tag.gpgsign", "true")],
        &[("merge.ff", "only"), ("pull.ff", "only"), ("merge.conflictStyle", "zdiff3"), ("merge.renames", "false")],
        &[("init.defaultBranch", "trunk"), ("init.templateDir", "/none"), ("checkout.defaultRemote", "x")],
        &[("core.hooksPath", "/none"), ("core.editor", "false"), ("core.pager", "false")],
        &[
            ("diff.algorithm", "histogram"),
            ("diff.renames", "copies"),
            ("diff.external", "false"),
            ("core.quotePath", "false"),
        ],
        &[("core.compression", "0"), ("core.looseCompression", "9"), ("pack.threads", "1"), ("core.fsync", "none")],
        &[("core.sharedRepository", "group")],
        &[
            ("core.logAllRefUpdates", "always"),
            ("gc.auto", "1"),
            ("gc.pruneExpire", "now"),
            ("receive.denyCurrentBranch", "refuse"),
        ],
        &[("core.untrackedCache", "true"), ("core.fsmonitor", "false"), ("core.preloadIndex", "false")],
        &[("feature.manyFiles", "true"), ("feature.experimental", "true"), ("core.multiPackIndex", "true")],
        &[("user.useConfigOnly", "true"), ("author.name", "Else"), ("i18n.commitEncoding", "ISO-8859-1")],
        &[("transfer.fsckObjects", "true"), ("core.whitespace", "cr-at-eol"), ("apply.whitespace", "fix")],
    ];
    for set in settings {
        let repository = repository();
        for (key, value) in *set {
            repository.git().config().and_then(|mut config| config.set_str(key, value)).expect("writable");
        }
        comes_to(&repository, &format!("{set:?}"), expected);
    }
}

#[test]
fn configuration_that_lies_elsewhere_is_followed_and_changes_no_tree() {
    let expected = undisturbed();
    let repository = repository();
    let (config, attributes, hooks) =
        (repository.beside("config"), repository.beside("attributes"), repository.beside("hooks"));
    fs::create_dir(&hooks).expect("space");
    for hook in ["pre-commit", "post-commit", "reference-transaction", "post-checkout", "post-index-change"] {
        let path = hooks.join(hook);
        fs::write(&path, format!("#!/bin/sh\necho {hook} >> {}\nexit 1\n", repository.beside("hooked").display()))
            .expect("space");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
    }
    fs::write(&attributes, "*.txt text eol=crlf filter=none ident\n*.sh filter=loud\n").expect("space");
    let text = format!(
        "[user]\nname = Elsewhere\nemail = e@example.org\n[core]\nautocrlf = true\nattributesFile = {}\nhooksPath = {}\n\
         [filter \"none\"]\nclean = /none/such %f\nsmudge = /none/such %f\nrequired = true\n\
         [filter \"loud\"]\nclean = sed s/said/loud/\nsmudge = sed s/said/loud/\n",
        attributes.display(),
        hooks.display()
    );
    fs::write(&config, text).expect("space");
    let before = repository.freeze("swarm/it");
    let ended = Swarm::run(&repository, "it", PLAN).env("GIT_CONFIG_GLOBAL", &config.display().to_string()).exits(0);
    assert_eq!(before.differences(&repository.freeze("swarm/it")), Vec::<String>::new());
    assert_eq!(repository.tree("swarm/it"), expected, "{ended}");
    assert!(!repository.beside("hooked").exists(), "no hook runs: {ended}");
}

#[test]
fn filters_of_the_tree_s_own_attributes_are_not_applied() {
    for program in ["cat", "/none/such"] {
        let repository = repository();
        repository.write(".gitattributes", "*.txt filter=lfs diff=lfs merge=lfs -text\n*.bin filter=lfs\n");
        repository.commit_all("attributes\n");
        let git = repository.git();
        let mut config = git.config().expect("it has one");
        for key in ["clean", "smudge", "process"] {
            config.set_str(&format!("filter.lfs.{key}"), program).expect("writable");
        }
        config.set_bool("filter.lfs.required", true).expect("writable");
        let ended = run(&repository, program);
        assert_eq!(ended.code, 0, "{ended}");
        assert_eq!(repository.text("swarm/it", "new/copy.txt"), "one\nmore\n");
        assert_eq!(repository.text("swarm/it", "crlf.txt"), "a\r\nb\r\nx\r\n");
    }
}

#[test]
fn checkouts_and_stores_that_git_keeps_otherwise_come_to_the_same_tree() {
    let expected = undisturbed();
    let kept: &[&[&[&str]]] = &[
        &[&["update-index", "--index-version=4"]],
        &[&["update-index", "--split-index"]],
        &[&["update-index", "--untracked-cache"]],
        &[&["sparse-checkout", "set", "--no-cone", "/a.txt"]],
        &[&["sparse-checkout", "set", "--cone", "--sparse-index", "dir"]],
        &[&["config", "extensions.worktreeConfig", "true"], &["config", "--worktree", "core.autocrlf", "true"]],
        &[
            &["pack-refs", "--all"],
            &["repack", "-adq", "--write-bitmap-index"],
            &["commit-graph", "write", "--reachable"],
        ],
        &[&["repack", "-adq"], &["multi-pack-index", "write"], &["prune-packed"]],
        &[&["update-index", "--assume-unchanged", "a.txt"], &["update-index", "--skip-worktree", "crlf.txt"]],
        &[&["checkout", "-q", "--detach"]],
        &[&["config", "core.bare", "false"], &["config", "core.worktree", ".."]],
    ];
    for commands in kept {
        let repository = repository();
        for command in *commands {
            if repository.run_git(command).is_none() {
                return;
            }
        }
        comes_to(&repository, &format!("{commands:?}"), expected);
    }
}

/// What libgit2 cannot read is refused before anything begins, and by what it is.
#[test]
fn formats_that_cannot_be_read_are_refused_by_name() {
    for (option, said) in [("--object-format=sha256", "sha256"), ("--ref-format=reftable", "reftable")] {
        let repository = repository();
        let other = repository.beside("other");
        let other_text = other.display().to_string();
        if repository.run_git(&["init", "-q", option, &other_text]).is_none() {
            return;
        }
        fs::write(other.join("a.txt"), "one\n").expect("space");
        let told = ["-c", "user.name=A", "-c", "user.email=a@b", "-C", &other_text];
        for command in [&["add", "."][..], &["commit", "-qm", "first"]] {
            repository.run_git(&[&told[..], command].concat());
        }
        let ended = Swarm::run(&repository, "it", "[tasks.a]\nrun = 'echo a >> a.txt'\n").current_dir(&other).exits(3);
        assert!(ended.err.to_lowercase().contains(said) && ended.err.contains("hint:"), "{said}: {ended}");
        assert!(!other.join(".git/swarm").exists(), "nothing was begun");
    }
}

#[test]
fn settings_count_that_git_s_variables_name() {
    let repository = Repository::with(&[("a.txt", "a\n")]);
    for key in ["user.name", "user.email"] {
        repository.git().config().and_then(|mut config| config.remove(key)).expect("it was set");
    }
    let identity = |who: &str| format!("[user]\nname = {who}\nemail = {who}@example.org\n");
    fs::write(repository.home().join(".gitconfig"), identity("home")).expect("space");
    let global = repository.beside("global");
    fs::write(&global, identity("named")).expect("space");
    let (ignored, system) = (repository.beside("ignored"), repository.beside("system"));
    fs::write(&ignored, "*.log\n").expect("space");
    fs::write(&system, format!("[core]\nautocrlf = true\nexcludesFile = {}\n", ignored.display())).expect("space");
    let [global, system] = [&global, &system].map(|path| path.display().to_string());
    let run = |into: &str, variables: &[(&str, &str)]| {
        let plan = "[tasks.t]\nrun = 'echo new > new.txt; echo log > t.log'\n";
        let run = Swarm::run(&repository, "it", plan).args(&["--into", into]);
        let ended = variables.iter().fold(run, |run, (name, value)| run.env(name, value)).exits(0);
        let git = repository.git();
        let commit = git.find_commit(repository.commit_of(into).expect("it landed")).expect("a commit");
        let author = commit.author().name().map(str::to_owned);
        (author.expect("a name"), repository.files(into).contains_key("t.log"), ended.out)
    };
    let (author, is_logged, _) = run("one", &[]);
    assert_eq!((author.as_str(), is_logged), ("home", true));
    let (author, is_logged, _) = run("two", &[("GIT_CONFIG_GLOBAL", &global), ("GIT_CONFIG_SYSTEM", &system)]);
    assert_eq!((author.as_str(), is_logged), ("named", false));
    let (author, is_logged, _) = run("three", &[("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "yes")]);
    assert_eq!((author.as_str(), is_logged), ("swarm", true));
    let refused = Swarm::new(&repository, &["list"]).env("GIT_CONFIG_NOSYSTEM", "perhaps").exits(2);
    assert!(refused.err.contains("GIT_CONFIG_NOSYSTEM"), "{refused}");
    Swarm::new(&repository, &["apply"]).env("GIT_CONFIG_SYSTEM", &system).exits(0);
    assert_eq!(fs::read_to_string(repository.path().join("new.txt")).expect("applied"), "new\r\n");
}
