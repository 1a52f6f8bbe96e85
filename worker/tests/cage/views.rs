//! What a job sees and may write.

use std::fs;

use swarm_protocol::{Access, Cow, Ended, Grant, NetworkSpec, Tier};

use crate::fixture::{Cage, Ran, SECRET, Worker};
use crate::raw::DONE;
use crate::{Case, Outcome};

/// All claims.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("the worktree is writable and shows its base", worktree),
        Case::new("home and temporary folder are private and writable", private_folders),
        Case::new("a job sees only its own processes", own_processes),
        Case::new("a read grant is readable and not writable", read_grant),
        Case::new("a write grant is writable", write_grant),
        Case::new("a hidden file and a hidden folder cannot be read", hidden),
        Case::new("18 a hidden file of the system is not readable", hidden_of_the_system),
        Case::new("18 a hidden folder above those of the system is not readable", hidden_above_the_system),
        Case::new("what is hidden or read-only inside a write grant stays so for the next job", kept_in_its_place),
        Case::new("a copy-on-write folder takes writes and stays as it was", copy_on_write),
        Case::new("folders that share an overlay show nothing beside them", shared_copy_on_write),
        Case::new("15 a symlink in a granted path refuses the launch", symlink_in_grant),
        Case::new("15 a symlink in the worktree does not move a mount out of it", symlink_under_mount),
        Case::new("a grant that does not exist refuses the launch", missing_grant),
        Case::new("a grant of the root or of /proc refuses the launch", reserved_grants),
        Case::new("24 devices, fifos and sockets cannot be made in the worktree", special_files),
        Case::new("31 /proc and /sys cannot be written", kernel_files),
        Case::new("pipes, descriptors and terminals work as programs expect", ordinary_life),
        Case::new("modes and times of a job's own files change as anywhere", own_metadata),
        Case::new("two jobs can listen on the same port of their own loopback", own_loopback),
        Case::new("the host's network is reported as not enforced", host_network),
        Case::new("an older Landlock ABI still makes a cage and names what it lacks", older_landlock),
    ]
}

fn started(ran: &Ran) -> &Ran {
    assert!(ran.entered.is_some(), "the job was not started: {ran:?}");
    ran
}

fn refused(ran: &Ran, word: &str) {
    match &ran.outcome().ended {
        Ended::Refused(refusal) => {
            let text = format!("{}: {}", refusal.step, refusal.reason);
            assert!(text.contains(word), "{word:?} is not in {text:?}");
        }
        ended => panic!("not refused: {ended:?}"),
    }
}

fn worktree(tier: Tier) {
    let cage = Cage::new(tier);
    let ran =
        cage.run("pwd; cat README .git/HEAD; echo new > new; mkdir -p a/b; mv new a/b/; rm README; chmod +x a/b/new");
    let seen = format!("{}\nbase\nref: refs/heads/work\n", cage.worktree().display());
    assert_eq!(started(&ran).stdout, seen, "{ran:?}");
    assert_eq!(fs::read_to_string(cage.written("a/b/new")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(cage.path("host/repo/README")).unwrap(), "host\n");
}

fn private_folders(tier: Tier) {
    let cage = Cage::new(tier);
    let script = "ls -A $HOME; echo x > $HOME/f && mkdir -p $HOME/.cache/y; t=${TMPDIR:-/tmp}; echo x > $t/f && mkfifo $t/p; ls $HOME $t";
    let mut start = cage.start(script);
    // A folder that holds the worktree allows no more than the worktree does, so there is another one.
    let beside = (tier == Tier::Namespaces && cage.worktree().starts_with("/tmp")).then(|| "/run/swarm/tmp".into());
    if let Some(tmp) = start.sandbox.tmp.clone().or(beside) {
        start.sandbox.env.push(("TMPDIR".to_owned(), tmp.display().to_string()));
    }
    let ran = Worker::spawn(&start).finish();
    let lines: Vec<&str> = started(&ran).stdout.lines().collect();
    assert!(lines.contains(&"f"), "{ran:?}");
    assert!(lines.contains(&"p"), "{ran:?}");
    assert!(tier == Tier::Landlock || !cage.path("host/home/f").exists());
    // Where the home folder is the repository's parent or holds other mounts, only those are in it.
    assert!(!ran.stdout.contains(".ssh"), "{ran:?}");
}

fn own_processes(tier: Tier) {
    let ran = Cage::new(tier).run("ls -d /proc/[0-9]* | wc -l");
    let seen: u32 = started(&ran).stdout.trim().parse().unwrap();
    assert!(tier == Tier::Landlock || seen <= 4, "{seen} processes");
}

fn grant(cage: &Cage, relative: &str, access: Access) -> Grant {
    Grant { path: cage.path(relative), at: cage.path(relative), access }
}

/// Every way to name a file that is one's own, and what must go wrong by itself.
const METADATA: &str = r#"
exec 2>&1
at() { stat -c '%a %Y' "$@"; }
echo x > f; touch -d '2001-01-01 UTC' f; chmod 704 f; at f
ln -s f l; chmod 640 l; touch -h -d '2002-02-02 UTC' l; at f; stat -c %Y l
mkdir d; cd d; echo y > x; touch -d '2003-03-03 UTC' x; chmod 711 . ; chmod 604 ../f; chmod 600 "$PWD/x"; at ../f x; stat -c %a .; cd ..
exec 8<>f; chmod 601 /dev/fd/8; at f; chmod 602 /proc/self/fd/8; at f
chown "$(id -u):$(id -g)" f; chown -h "$(id -u)" l; chmod u+s f; at f
cp -a f copy; at copy; install -m 705 f there; stat -c %a there
mkdir -p a/b; echo z > a/b/c; chmod -R 700 a; stat -c %a a a/b a/b/c
rm f; chmod 600 /proc/self/fd/8 && echo nameless; chmod 600 missing; touch -c missing; chmod 600 x/y
echo h > "$HOME/h"; chmod 600 "$HOME/h"; stat -c %a "$HOME/h"
tar -cf t.tar a && rm -r a && tar -xpf t.tar && stat -c %a a a/b a/b/c
(umask 0; echo 1 > u; at u > /dev/null; chmod +x u; stat -c %a u)
for i in 1 2 3 4 5 6 7 8; do (for j in 1 2 3 4 5 6 7 8 9; do echo > p$i$j; chmod 600 p$i$j; touch -d '2004-04-04 UTC' p$i$j; done) & done; wait
at p* | sort | uniq -c
"#;

fn own_metadata(tier: Tier) {
    let free = tempfile::tempdir().expect("a folder");
    let home = free.path().join("home");
    fs::create_dir(&home).expect("a folder");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", METADATA]).env("HOME", &home).env("LC_ALL", "C").current_dir(free.path());
    // Set-id bits are no job's, wherever they are set.
    let expected = String::from_utf8(command.output().expect("a shell").stdout).expect("text");
    let expected = expected.replacen("4602 ", "602 ", 1).replace("4602 ", "602 ");
    let cage = Cage::new(tier);
    let ran = cage.run(&format!("export LC_ALL=C\n{METADATA}"));
    let said = started(&ran).stdout.lines().filter(|line| !line.contains("Operation not permitted"));
    assert_eq!(said.collect::<Vec<_>>(), expected.lines().collect::<Vec<_>>(), "{ran:?}");
}

fn read_grant(tier: Tier) {
    let cage = Cage::new(tier);
    fs::create_dir(cage.path("tools")).unwrap();
    fs::write(cage.path("tools/tool"), "tool\n").unwrap();
    let tools = cage.path("tools").display().to_string();
    let mut start = cage.start(&format!("cat {tools}/tool; echo x > {tools}/new; echo x >> {tools}/tool; true"));
    start.sandbox.grants.push(grant(&cage, "tools", Access::Read));
    let ran = Worker::spawn(&start).finish();
    assert_eq!(started(&ran).stdout, "tool\n");
    assert_eq!(fs::read_to_string(cage.path("tools/tool")).unwrap(), "tool\n");
    assert!(!cage.path("tools/new").exists());
}

fn write_grant(tier: Tier) {
    let cage = Cage::new(tier);
    fs::create_dir(cage.path("out")).unwrap();
    let mut start = cage.start(&format!("echo x > {}/new", cage.path("out").display()));
    start.sandbox.grants.push(grant(&cage, "out", Access::Write));
    let ran = Worker::spawn(&start).finish();
    assert_eq!(started(&ran).outcome().ended, Ended::Exited { code: 0 }, "{ran:?}");
    assert_eq!(fs::read_to_string(cage.path("out/new")).unwrap(), "x\n");
}

fn hidden(tier: Tier) {
    let cage = Cage::new(tier);
    let cargo = cage.path("host/home/.cargo").display().to_string();
    let ssh = cage.path("host/home/.ssh").display().to_string();
    let mut start =
        cage.start(&format!("cat {cargo}/config.toml; cat {cargo}/credentials.toml; ls {ssh}; cat {ssh}/id_rsa"));
    start
        .sandbox
        .grants
        .extend([grant(&cage, "host/home/.cargo", Access::Read), grant(&cage, "host/home/.ssh", Access::Read)]);
    start.sandbox.hide = vec![
        cage.path("host/home/.cargo/credentials.toml"),
        cage.path("host/home/.ssh"),
        cage.path("host/home/.cargo/not-there"),
    ];
    let ran = Worker::spawn(&start).finish();
    assert_eq!(started(&ran).stdout, "[net]\n", "{ran:?}");
    start.sandbox.hide.clear();
    assert!(Worker::spawn(&start).finish().stdout.contains(SECRET), "the control sees it");
}

/// In a folder that every cage shows.
fn hidden_of_the_system(tier: Tier) -> Outcome {
    let secret = "/usr/lib/os-release";
    if fs::metadata(secret).is_err() {
        return Outcome::skipped(format!("this machine has no {secret}"));
    }
    let cage = Cage::new(tier);
    let mut start = cage.start(&format!("ls /usr/lib >/dev/null; cat {secret}; sh -c true && echo works"));
    assert!(Worker::spawn(&start).finish().stdout.len() > "works\n".len(), "the control sees it");
    start.sandbox.hide.push(secret.into());
    let ran = Worker::spawn(&start).finish();
    assert_eq!(started(&ran).stdout, "works\n", "{ran:?}");
    Outcome::Passed
}

/// A folder of which every cage shows parts.
fn hidden_above_the_system(tier: Tier) {
    let cage = Cage::new(tier);
    let mut start = cage.start("cat /etc/passwd; sh -c true && echo works");
    assert!(Worker::spawn(&start).finish().stdout.contains("root:"), "the control sees it");
    start.sandbox.hide.push("/etc".into());
    for ran in [Worker::spawn(&start).finish(), Worker::start(&start).finish()] {
        assert_eq!(started(&ran).stdout, "works\n", "{ran:?}");
    }
}

/// Each job is one of a series under one policy: what the first renames, the second would find.
fn kept_in_its_place(tier: Tier) {
    let cage = Cage::new(tier);
    for folder in ["data/sub/deep", "data/box/ro"] {
        fs::create_dir_all(cage.path(folder)).unwrap();
    }
    fs::write(cage.path("data/sub/deep/secret"), SECRET).unwrap();
    fs::write(cage.path("data/box/ro/f"), "kept\n").unwrap();
    let data = cage.path("data").display().to_string();
    let moves = format!(
        "cd {data}; mv sub sub2; mv sub/deep sub/deeper; mv box boy; mkdir -p box/ro sub/deep; rm -rf sub; echo 1 > box/new; echo done"
    );
    let mut start = cage.start(&moves);
    start.sandbox.grants.push(grant(&cage, "data", Access::Write));
    start.sandbox.grants.push(grant(&cage, "data/box/ro", Access::Read));
    start.sandbox.hide.push(cage.path("data/sub/deep/secret"));
    let ran = Worker::spawn(&start).finish();
    if tier == Tier::Landlock {
        return refused(&ran, "inside a writable folder");
    }
    assert_eq!(started(&ran).stdout, "done\n", "{ran:?}");
    assert_eq!(
        fs::read_to_string(cage.path("data/box/new")).unwrap(),
        "1\n",
        "what is granted can be written: {ran:?}"
    );
    let looks = format!("cat {data}/s*/*/*; for f in {data}/bo*/*/f; do echo owned > $f; done; echo done");
    start.job = cage.start(&looks).job;
    let ran = Worker::spawn(&start).finish();
    assert_eq!(started(&ran).stdout, "done\n", "{ran:?}");
    assert_eq!(fs::read_to_string(cage.path("data/sub/deep/secret")).unwrap(), SECRET);
    assert_eq!(fs::read_to_string(cage.path("data/box/ro/f")).unwrap(), "kept\n");

    let mut control = cage.start(&format!("mv {data}/sub {data}/sub2 && cat {data}/sub2/deep/secret"));
    control.sandbox.grants.push(grant(&cage, "data", Access::Write));
    assert!(Worker::spawn(&control).finish().stdout.contains(SECRET), "without less inside, folders can be renamed");
}

fn copy_on_write(tier: Tier) {
    let cage = Cage::new(tier);
    for folder in ["cache", "state/cow-upper", "state/cow-work"] {
        fs::create_dir(cage.path(folder)).unwrap();
    }
    fs::write(cage.path("cache/warm"), "warm\n").unwrap();
    let mut start = cage.start("cat target/warm; echo cold > target/warm; cat target/warm");
    start.sandbox.cow.push(Cow {
        path: cage.path("cache"),
        at: cage.worktree().join("target"),
        shown: vec![],
        upper: "cow-upper".to_owned(),
        work: "cow-work".to_owned(),
    });
    let ran = Worker::spawn(&start).finish();
    if tier == Tier::Landlock {
        return refused(&ran, "copy-on-write");
    }
    assert_eq!(started(&ran).stdout, "warm\ncold\n", "{ran:?}");
    assert_eq!(fs::read_to_string(cage.path("cache/warm")).unwrap(), "warm\n");
}

fn shared_copy_on_write(tier: Tier) {
    let cage = Cage::new(tier);
    for folder in ["caches/a", "caches/deep/b", "caches/private", "state/cow-upper", "state/cow-work"] {
        fs::create_dir_all(cage.path(folder)).unwrap();
    }
    for file in ["a/warm", "deep/b/warm", "deep/beside", "private/key"] {
        fs::write(cage.path("caches").join(file), "warm\n").unwrap();
    }
    let caches = cage.path("caches");
    let script = format!(
        "cd {0}; cat a/warm deep/b/warm; echo cold > deep/b/warm; cat deep/b/warm; rm a/warm; ls -A a deep .; \
         cat private/key deep/beside a/../private/key; mv a/. private; ls -A / | grep aside; grep -c aside /proc/self/mountinfo",
        caches.display()
    );
    let mut start = cage.start(&format!("({script}) 2>/dev/null; true"));
    start.sandbox.cow.push(Cow {
        path: caches.clone(),
        at: caches.clone(),
        shown: vec!["a".into(), "deep/b".into()],
        upper: "cow-upper".to_owned(),
        work: "cow-work".to_owned(),
    });
    let ran = Worker::spawn(&start).finish();
    if tier == Tier::Landlock {
        return refused(&ran, "copy-on-write");
    }
    assert_eq!(started(&ran).stdout, "warm\nwarm\ncold\n.:\na\ndeep\n\na:\n\ndeep:\nb\n0\n", "{ran:?}");
    assert_eq!(fs::read_to_string(caches.join("deep/b/warm")).unwrap(), "warm\n");
    assert!(caches.join("a/warm").exists());
}

fn symlink_in_grant(tier: Tier) {
    let cage = Cage::new(tier);
    fs::create_dir(cage.path("out")).unwrap();
    std::os::unix::fs::symlink(cage.path("host/home"), cage.path("out/link")).unwrap();
    let mut start = cage.start(&format!("cat {}/.netrc", cage.path("out/link").display()));
    start.sandbox.grants.push(grant(&cage, "out/link", Access::Read));
    let ran = Worker::spawn(&start).finish();
    refused(&ran, "symlink");
    assert!(!ran.stdout.contains(SECRET));
}

fn symlink_under_mount(tier: Tier) -> Outcome {
    if tier == Tier::Landlock {
        return Outcome::skipped("mounts are of the tier with namespaces");
    }
    let cage = Cage::new(tier);
    fs::create_dir(cage.path("cache")).unwrap();
    std::os::unix::fs::symlink(cage.path("host"), cage.path("state/lower/target")).unwrap();
    let before = cage.host();
    let mut start = cage.start("true");
    let at = cage.worktree().join("target/made/here");
    start.sandbox.grants.push(Grant { path: cage.path("cache"), at, access: Access::Read });
    refused(&Worker::spawn(&start).finish(), "symlink");
    assert_eq!(cage.host(), before, "no folder was made on the host");
    Outcome::Passed
}

fn missing_grant(tier: Tier) {
    let cage = Cage::new(tier);
    let mut start = cage.start("true");
    start.sandbox.grants.push(grant(&cage, "not-there", Access::Read));
    refused(&Worker::spawn(&start).finish(), "not-there");
}

fn reserved_grants(tier: Tier) {
    for (path, access) in
        [("/", Access::Read), ("/", Access::Write), ("/proc", Access::Read), ("/usr/lib", Access::Write)]
    {
        let cage = Cage::new(tier);
        let mut start = cage.start("true");
        start.sandbox.grants.push(Grant { path: path.into(), at: path.into(), access });
        refused(&Worker::spawn(&start).finish(), "belongs to the system");
    }
}

fn special_files(tier: Tier) {
    let cage = Cage::new(tier);
    let ran = cage.run("mkfifo fifo; mknod device c 1 3; mknod whiteout c 0 0; ls");
    assert_eq!(started(&ran).stdout, "README\n", "{ran:?}");
}

fn kernel_files(tier: Tier) {
    let script = "for f in /proc/sys/kernel/hostname /proc/sys/kernel/core_pattern /proc/self/oom_score_adj /proc/sysrq-trigger; do (echo x >> $f) 2>/dev/null && echo wrote $f; done; ls /sys/fs/cgroup; true";
    let ran = Cage::new(tier).run(script);
    assert_eq!(started(&ran).stdout, "", "{ran:?}");
}

fn ordinary_life(tier: Tier) {
    let script = "echo a | cat | tr a b; echo text > /dev/stdout; echo x > /dev/null; cat /dev/stdin; head -c 3 /dev/zero | wc -c; cat <<E\nhere\nE\nid -u; test -r /proc/self/status && echo status; umask";
    let ran = Cage::new(tier).run(script);
    let id = rustix::process::getuid().as_raw();
    assert_eq!(started(&ran).stdout, format!("b\ntext\n3\nhere\n{id}\nstatus\n0022\n"), "{ran:?}");
}

fn own_loopback(tier: Tier) {
    let (cage, other) = (Cage::new(tier), Cage::new(tier));
    if tier == Tier::Landlock {
        let ran = cage.run("$SELF __attack tcp-hold 8080 </dev/null");
        assert!(!started(&ran).stdout.contains(DONE), "{ran:?}");
        assert!(ran.entered.unwrap().enforced.iter().any(|word| word == "no-sockets"));
        return;
    }
    // Both listen at the same time: the second one while the first one still does.
    let mut first = Worker::spawn(&cage.start("$SELF __attack tcp-hold 8080 && sleep 60"));
    first.wait_for("HOLDS");
    let second = other.run("$SELF __attack tcp-loopback; $SELF __attack tcp-hold 8080");
    assert!(started(&second).stdout.contains("HOLDS") && second.stdout.contains(DONE), "{second:?}");
    drop(first.input.take());
    first.process.wait();
    assert!(second.entered.unwrap().enforced.iter().any(|word| word == "netns"));
}

fn host_network(tier: Tier) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let cage = Cage::new(tier);
    let mut start = cage.start(&format!("$SELF __attack tcp-connect {port}"));
    start.sandbox.network = NetworkSpec::Host;
    let ran = Worker::spawn(&start).finish();
    assert!(started(&ran).stdout.contains(DONE), "{ran:?}");
    assert!(ran.entered.unwrap().not_enforced.iter().any(|line| line.starts_with("network")));
}

/// Runs without a worker: the protocol cannot ask for less than the kernel has.
fn older_landlock(tier: Tier) {
    for abi in 1..=7 {
        let cage = Cage::new(tier);
        let policy = swarm_sandbox::Draft { landlock_abi_max: Some(abi), ..cage.draft() }.check().unwrap();
        let before = cage.host();
        let script = "cat $HOST/home/.netrc; echo x > $HOST/home/new; echo ran > ran";
        let (entered, said) = crate::fixture::run_under(&policy, &cage, script).unwrap();
        assert_eq!(entered.landlock_abi, abi.min(swarm_sandbox::landlock::kernel_abi()));
        assert!(cage.written("ran").exists() && !said.contains(SECRET) && cage.host() == before, "{said}");
    }
}
