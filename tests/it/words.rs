//! What people are told next is something that they can do.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use swarm_tests::{Ended, Repository, Swarm};

const FILES: [(&str, &str); 3] = [("a.txt", "one\n"), ("src/s", "s\n"), ("top", "t\n")];

/// `swarm run` as a person types it.
fn run(repository: &Repository, plan: &str) -> Swarm {
    let path = repository.beside("it.toml");
    std::fs::write(&path, format!("version = 1\n{plan}")).expect("space");
    Swarm::new(repository, &["run", &path.display().to_string()])
}

fn says(ended: &Ended, words: &[&str]) {
    words.iter().for_each(|word| assert!(ended.err.contains(word), "`{word}` is missing: {ended}"));
}

fn silent(ended: &Ended, words: &[&str]) {
    let said = format!("{}{}", ended.out, ended.err);
    words.iter().for_each(|word| assert!(!said.contains(word), "`{word}`: {ended}"));
}

#[test]
fn a_violation_is_answered_with_the_line_of_the_plan_that_would_allow_it() {
    let repository = Repository::with(&FILES);
    let ended = run(&repository, "[tasks.a]\nrun = 'echo x > src/new'\nwrites = ['src']\n").exits(1);
    says(&ended, &["to allow it: writes = [\"src\", \"src/\"]  # in [tasks.a]\n        then swarm run it anew"]);
    silent(&ended, &["swarm retry"]);
    run(&repository, "[tasks.a]\nrun = 'echo x > src/new'\nwrites = ['src', 'src/']\n").exits(0);
    let ended = run(&repository, "[tasks.a]\nrun = 'echo x > src/new'\n[merge]\nmode = 'none'\n").exits(1);
    says(&ended, &["to allow it: mode = \"train\"  # in [merge]; or commit a .gitignore"]);
    // What a task added is written in its template.
    let plan = r#"
[templates.fix]
run = 'echo x > other; echo $D'
env = { D = '{{ with.d }}' }
writes = ['{{ with.d }}/**']
[tasks.split]
run = '''echo '[{"template":"fix","name":"n","with":{"d":"src"}}]' > "$SWARM_ARTIFACTS/tasks.json"'''
writes = []
expands = { template = ['fix'] }
"#;
    let ended = run(&repository, plan).exits(1);
    says(&ended, &["to allow it: writes = [\"{{ with.d }}/**\", \"other\"]  # in [templates.fix]"]);
}

#[test]
fn a_first_commit_is_made_of_what_is_there() {
    let empty = Repository::empty();
    let ended = run(&empty, "[tasks.a]\nrun = 'true'\n").exits(3);
    says(&ended, &["hint: git add -A && git commit --allow-empty -m start"]);
    if empty.run_git(&["add", "-A"]).is_some() {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@b"];
        empty.run_git(&[&identity[..], &["commit", "-q", "--allow-empty", "-m", "start"]].concat());
        run(&empty, "[tasks.a]\nrun = 'true'\n").exits(0);
    }
    let nowhere = run(&empty, "[tasks.a]\nrun = 'true'\n").current_dir(&empty.home()).exits(3);
    says(&nowhere, &["git init && git add -A && git commit --allow-empty -m start"]);
}

#[test]
fn a_bare_repository_is_not_offered_apply() {
    let repository = Repository::with(&FILES);
    let bare = repository.beside("bare.git");
    git2::build::RepoBuilder::new().bare(true).clone(&repository.path().display().to_string(), &bare).expect("a clone");
    let plan = "[tasks.a]\nrun = 'echo two >> a.txt'\n";
    let ended = run(&repository, plan).current_dir(&bare).exits(0);
    says(&ended, &["next: git diff"]);
    silent(&ended, &["swarm apply"]);
    says(&run(&repository, plan).exits(0), &["swarm apply it-1"]);
}

#[test]
fn what_waits_for_others_is_not_to_be_resolved_and_an_empty_log_not_to_be_read() {
    let repository = Repository::with(&FILES);
    let plan = "[tasks.a]\nrun = 'echo two >> a.txt'\n[tasks.b]\nrun = 'false'\n[merge]\npublish = 'all-or-nothing'\n";
    let ended = run(&repository, plan).exits(1);
    says(&ended, &["swarm retry it-1 a", "swarm drop it-1 a"]);
    silent(&ended, &["swarm resolve"]);
    let applied = Swarm::new(&repository, &["apply"]).exits(2);
    says(&applied, &["nothing of it has landed", "swarm status it-1"]);
    let gate = |verify: &str| format!("[tasks.a]\nrun = 'rm top'\n[merge]\nverify = '{verify}'\n");
    let ended = run(&repository, &gate("test -e top")).exits(5);
    silent(&ended, &["why:"]);
    let told = run(&repository, &gate("ls top")).exits(5);
    says(&told, &["why:  swarm logs it-3 '[merge] verify' --attempt"]);
    silent(&run(&repository, &gate("test -e none")).exits(6), &["swarm logs"]);
    says(&run(&repository, &gate("ls none")).exits(6), &["next: swarm logs it-5 '[merge] verify'"]);
}

#[test]
fn a_command_whose_change_was_shown_has_landed_nowhere() {
    let repository = Repository::with(&FILES);
    Swarm::new(&repository, &["exec", "--", "sh", "-c", "echo x > new"]).exits(0);
    Swarm::new(&repository, &["exec", "--keep", "--", "sh", "-c", "echo x > kept"]).exits(0);
    let list = Swarm::new(&repository, &["list"]).exits(0);
    let line = |run: &str| list.out.lines().find(|line| line.contains(run)).unwrap_or_default().to_owned();
    assert!(line("exec-2").contains("landed") && line("exec-2").contains("swarm/exec-2"), "{list}");
    assert!(line("exec-1 ").contains("its change was shown") && !line("exec-1 ").contains("landed"), "{list}");
}

#[test]
fn what_another_run_landed_is_not_applied_in_the_name_of_one() {
    let repository = Repository::with(&FILES);
    let exec = |script: &str| Swarm::new(&repository, &["exec", "--keep", "--", "sh", "-c", script]).exits(0);
    exec("true");
    says(&exec("echo x > kept"), &["kept as swarm/exec-2"]);
    let refused = Swarm::new(&repository, &["apply", "exec-1"]).exits(2);
    says(&refused, &["nothing of it has landed on swarm/exec-1", "swarm status exec-1"]);
    says(&Swarm::new(&repository, &["apply", "exec-2"]).exits(0), &["moved forward to swarm/exec-2"]);
    run(&repository, "[tasks.a]\nrun = 'echo two >> a.txt'\n").exits(0);
    run(&repository, "[tasks.a]\nrun = 'true'\n").exits(0);
    let refused = Swarm::new(&repository, &["apply", "it-2"]).exits(2);
    says(&refused, &["nothing of it has landed on swarm/it", "what is on that branch: swarm apply it-1"]);
}

#[test]
fn a_command_takes_no_branch_that_is_there_already() {
    let repository = Repository::with(&FILES);
    let git = repository.git();
    let head = git.find_commit(repository.commit_of("HEAD").expect("a commit")).expect("as said");
    git.branch("swarm/exec-1", &head, false).expect("a branch");
    let kept = Swarm::new(&repository, &["exec", "--keep", "--", "sh", "-c", "echo x > kept"]).exits(0);
    says(&kept, &["kept as swarm/exec-2"]);
    for name in ["swarm/exec-1", "swarm/exec-2"] {
        let mut branch = git.find_branch(name, git2::BranchType::Local).expect("a branch");
        branch.delete().expect("not checked out");
    }
    git.branch("swarm", &head, false).expect("a branch");
    let refused = Swarm::new(&repository, &["exec", "--", "true"]).exits(2);
    says(&refused, &["branch `swarm` is in its way"]);
}

#[test]
fn a_log_keeps_its_tabs() {
    let repository = Repository::with(&FILES);
    run(&repository, "[tasks.a]\nrun = 'printf \"a\\\\tb\\\\n\"'\n").exits(0);
    assert_eq!(Swarm::new(&repository, &["logs", "a"]).exits(0).out, "a\tb\n");
}

/// A folder on `PATH` that is a repository in which swarm ran, and folders there that no cage shows.
#[test]
fn a_repository_on_path_shows_its_programs_and_neither_its_state_nor_its_config() {
    let tools = Repository::with(&[("hello", "#!/bin/sh\necho hi\n")]);
    run(&tools, "[tasks.a]\nrun = 'echo SECRET-OF-ANOTHER-RUN'\n").exits(0);
    let place = tools.path().canonicalize().expect("it exists");
    std::fs::set_permissions(place.join("hello"), std::fs::Permissions::from_mode(0o755)).expect("our own");
    let grep = |at: &str| format!("grep -rl -e SECRET-OF -e repositoryformatversion {}/{at}", place.display());
    let control = std::process::Command::new("sh").args(["-c", &grep(".git")]).output().expect("a shell");
    assert!(control.status.success(), "outside of the cage it is there");
    let repository = Repository::with(&FILES);
    let many: Vec<String> = (0..2_100).map(|number| format!("{}/{number}", repository.home().display())).collect();
    many.iter().for_each(|folder| std::fs::create_dir(folder).expect("a folder"));
    let path = [
        place.display().to_string(),
        "/etc".into(),
        "/dev/shm".into(),
        "/proc/self".into(),
        "rel".into(),
        String::new(),
    ];
    let path =
        path.into_iter().chain([std::env::var("PATH").unwrap_or_default()]).chain(many).collect::<Vec<_>>().join(":");
    let plan = format!(
        "[tasks.a]\nrun = 'hello > said; if {} || {} || cat /etc/shadow; then exit 9; fi'\n",
        grep(".git/swarm"),
        grep(".git")
    );
    let swarm = || run(&repository, &plan).env("PATH", &path).env("VIRTUAL_ENV", &place.display().to_string());
    let ran = swarm().exits(0);
    assert_eq!(repository.text("swarm/it", "said"), "hi\n");
    assert!(ran.err.contains("PATH names `/etc`, which no task sees"), "{}", ran.err);
    assert_eq!(ran.err.matches("PATH names `/dev/shm`").count(), 1, "{}", ran.err);
    if let Some(swarm) = swarm().args(&["--into", "other"]).without_namespaces() {
        swarm.exits(0);
        assert_eq!(repository.text("other", "said"), "hi\n");
    }
}

/// As pipx makes it: a link on `PATH` into an environment of the tool's own, whose interpreter is a link again.
#[test]
fn a_tool_behind_a_link_runs_and_what_lies_beside_it_is_not_shown() {
    let repository = Repository::with(&FILES);
    let home = repository.home().canonicalize().expect("it exists");
    let venv = home.join(".local/share/pipx/venvs/tool");
    let files = [
        ("bin/tool", format!("#!{}/bin/python\ncat {}/lib/words\n", venv.display(), venv.display())),
        ("lib/words", "it runs\n".to_owned()),
        ("pyvenv.cfg", "home = /bin\n".to_owned()),
        ("private", "private\n".to_owned()),
    ];
    for (path, text) in &files {
        std::fs::create_dir_all(venv.join(path).parent().expect("a folder")).expect("folders");
        std::fs::write(venv.join(path), text).expect("a file");
    }
    std::fs::set_permissions(venv.join("bin/tool"), std::fs::Permissions::from_mode(0o755)).expect("our own");
    symlink("/bin/sh", venv.join("bin/python")).expect("a link");
    let bin = home.join(".local/bin");
    std::fs::create_dir_all(&bin).expect("a folder");
    symlink("../share/pipx/venvs/tool/bin/tool", bin.join("tool")).expect("a link");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let plan = format!("[tasks.a]\nrun = 'tool > said; if cat {}/private; then exit 9; fi'\n", venv.display());
    let swarm = || run(&repository, &plan).env("PATH", &path);
    swarm().exits(0);
    assert_eq!(repository.text("swarm/it", "said"), "it runs\n");
    if let Some(swarm) = swarm().args(&["--into", "other"]).without_namespaces() {
        swarm.exits(0);
        assert_eq!(repository.text("other", "said"), "it runs\n");
    }
}

/// A version keeper gives each shell a link of its own, where no task ever writes; a link where one may write shows nothing.
#[test]
fn a_link_on_path_shows_what_it_leads_to_where_no_task_can_have_made_it() {
    let repository = Repository::with(&FILES);
    let home = repository.home().canonicalize().expect("it exists");
    let version = home.join(".local/share/fnm/node-versions/v20/installation");
    for (folder, name) in [(version.join("bin"), "node"), (home.join("private/bin"), "mine")] {
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(name), format!("#!/bin/sh\necho {name}\n")).expect("a file");
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o755)).expect("our own");
    }
    let (shell, led) = (home.join(".local/state/fnm_multishells/17_1"), home.join("work/bin"));
    for (target, link) in [(version, &shell), (home.join("private/bin"), &led)] {
        std::fs::create_dir_all(link.parent().expect("a folder")).expect("a folder");
        symlink(target, link).expect("a link");
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}/bin:{}:{path}", shell.display(), led.display());
    let plan = format!(
        "[tasks.a]\nrun = 'node > said; if mine || cat {}/private/bin/mine; then exit 9; fi'\n",
        home.display()
    );
    let swarm = || run(&repository, &plan).env("PATH", &path);
    let ran = swarm().exits(0);
    assert_eq!(repository.text("swarm/it", "said"), "node\n");
    assert!(ran.err.contains("work/bin`, which no task sees"), "{}", ran.err);
    if let Some(swarm) = swarm().args(&["--into", "other"]).without_namespaces() {
        swarm.exits(0);
        assert_eq!(repository.text("other", "said"), "node\n");
    }
}

/// An activated environment inside the repository: the way to its interpreter leads through a folder that worktrees have not.
#[test]
fn a_way_to_a_program_through_the_repository_leaves_nothing_in_a_worktree() {
    let repository = Repository::with(&FILES);
    let home = repository.home().canonicalize().expect("it exists");
    let (installed, venv) = (home.join("py"), repository.path().join(".venv"));
    [&installed.join("bin"), &installed.join("lib"), &venv.join("bin"), &venv.join("lib")]
        .into_iter()
        .for_each(|folder| std::fs::create_dir_all(folder).expect("folders"));
    std::fs::write(installed.join("bin/python3.12"), "#!/bin/sh\necho it runs\n").expect("a file");
    std::fs::set_permissions(installed.join("bin/python3.12"), std::fs::Permissions::from_mode(0o755))
        .expect("our own");
    symlink(installed.join("bin/python3.12"), venv.join("bin/python")).expect("a link");
    symlink("python", venv.join("bin/python3")).expect("a link");
    std::fs::write(venv.join(".gitignore"), "*\n").expect("a file");
    std::fs::write(venv.join("pyvenv.cfg"), format!("home = {}/bin\n", installed.display())).expect("a file");
    let beside = home.join("tools");
    std::fs::create_dir_all(&beside).expect("a folder");
    symlink(venv.join("bin/python"), beside.join("mine")).expect("a link");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{}:{path}", venv.join("bin").display(), beside.display());
    let script = format!(
        "git status --porcelain -uall > said; {}/bin/python3.12 >> said; ls -d .venv >> said || true",
        installed.display()
    );
    let plan = format!("[tasks.a]\nrun = '{script}'\nwrites = ['said']\n");
    let swarm = || run(&repository, &plan).env("PATH", &path);
    swarm().exits(0);
    assert_eq!(repository.text("swarm/it", "said"), "?? said\nit runs\n");
    if let Some(swarm) = swarm().args(&["--into", "other"]).without_namespaces() {
        swarm.exits(0);
        assert_eq!(repository.text("other", "said"), "?? said\nit runs\n");
    }
}

#[test]
fn the_help_names_every_command_that_the_readme_does() {
    let repository = Repository::empty();
    let help = Swarm::new(&repository, &["--help"]).exits(0).out;
    let readme = include_str!("../../README.md");
    let rows = readme.lines().filter(|line| line.starts_with("| `swarm ")).filter_map(|line| line.split('|').nth(1));
    let commands = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let names = commands.filter_map(|command| command.trim_start_matches("swarm ").split(' ').next());
    let missing: Vec<&str> = names.filter(|name| !help.contains(&format!("\n  {name} "))).collect();
    assert_eq!(missing, [""; 0], "{help}");
}

#[test]
fn who_follows_a_task_that_has_not_begun_waits_for_it() {
    let repository = Repository::with(&FILES);
    let plan = "[tasks.first]\nrun = 'sleep 1'\nwrites = []\n[tasks.second]\nneeds = ['first']\nrun = 'echo it began'\nwrites = []\n";
    let mut running = Swarm::run(&repository, "it", plan).start();
    assert!(running.says("attempt-started"), "it tells");
    let early = Swarm::new(&repository, &["logs", "second"]).exits(2);
    says(&early, &["second has 0 attempts"]);
    let followed = Swarm::new(&repository, &["logs", "second", "--follow"]).exits(0);
    assert_eq!((followed.out.as_str(), running.end().code), ("it began\n", 0));
}
