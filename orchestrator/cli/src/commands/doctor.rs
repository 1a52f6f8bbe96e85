//! `swarm doctor`: what this machine and this repository can do, found out by doing it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use swarm_orchestrator::hollow;
use swarm_orchestrator::journal::read::count_runs;
use swarm_orchestrator::machine::{EGRESS_OPEN, Machine, has_room};
use swarm_orchestrator::policy::{self, Looked, Places, View, Word};
use swarm_orchestrator::report::words::{self, Tone};
use swarm_orchestrator::report::{exit, sanitize};
use swarm_orchestrator::repository::{History, IdentitySource, Objects, Repository};
use swarm_plans::DEFAULT_SANDBOX;
use swarm_protocol::{Probe, Question, Tier, Verdict};

use crate::commands::caged::Scratch;
use crate::commands::effective;
use crate::commands::failure::Failure;
use crate::commands::probing::Probing;
use crate::commands::surroundings::{Surroundings, host};
use crate::commands::unsettled;

/// Shows what this machine and this repository can do.
#[derive(Debug, clap::Args)]
pub struct Doctor {}

/// A finding: a mark, and what was found.
struct Finding {
    grade: Grade,
    text: String,
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Good,
    Weaker,
    Bad,
}

/// A report on stdout; exit code 3 when no task could be caged or the repository cannot be used.
///
/// # Errors
/// Nobody reads it, or the probe cannot be started.
pub fn run(Doctor {}: &Doctor, it: &Surroundings) -> Result<u8, Failure> {
    let mut findings = Vec::new();
    match it.repository() {
        Ok(repository) => {
            let folder = it.state_of(&repository);
            let no_room = has_room(repository.place(), &folder).err();
            // What the machine can do holds anywhere.
            let scratch = no_room.is_some().then(Scratch::temporary).transpose()?;
            let probing = Probing::begin(Question::Each, scratch.as_ref().map_or(&folder, Scratch::path))?;
            findings.extend(of_repository(&repository)?);
            findings.push(of_journal(&folder));
            findings.extend(of_unsettled(&unsettled::waiting(&folder)));
            let probe = probing.probe()?;
            findings.extend(of_cage(&probe));
            match no_room {
                None => findings.extend(of_default_policy(&repository, &folder, probe)?),
                Some(error) => findings.push(Finding {
                    grade: Grade::Bad,
                    text: format!("place: no task can run here: failed to {}", sanitize::name(&error.to_string())),
                    hint: error.hint(),
                }),
            }
            findings.extend(of_path(&host()?.env.get("PATH").cloned().unwrap_or_default()));
        }
        Err(Failure::Told { message, hint, .. }) => {
            findings.push(Finding { grade: Grade::Bad, text: format!("repository: failed to {message}"), hint });
            // What the machine can do holds anywhere.
            let scratch = Scratch::temporary()?;
            findings.extend(of_cage(&Probing::begin(Question::Each, scratch.path())?.probe()?));
            findings.extend(of_path(&host()?.env.get("PATH").cloned().unwrap_or_default()));
        }
        Err(other) => return Err(other),
    }
    for finding in &findings {
        let (mark, tone) = match finding.grade {
            Grade::Good => ("[+]", Tone::Good),
            Grade::Weaker => ("[!]", Tone::Warn),
            Grade::Bad => ("[x]", Tone::Bad),
        };
        it.out.write(&format!("{} {}\n", it.out.style.paint(tone, mark), finding.text))?;
        if let Some(hint) = &finding.hint {
            it.out.write(&format!("    hint: {hint}\n"))?;
        }
    }
    let bad = findings.iter().any(|finding| finding.grade == Grade::Bad);
    Ok(if bad { exit::ENVIRONMENT } else { 0 })
}

fn good(text: String) -> Finding {
    Finding { grade: Grade::Good, text, hint: None }
}

fn weaker(text: String, hint: &str) -> Finding {
    Finding { grade: Grade::Weaker, text, hint: Some(hint.to_owned()) }
}

/// Refs of ours whose commit is gone, or out of reach.
fn of_refs(repository: &Repository) -> Result<Option<Finding>, Failure> {
    let (hidden, gone): (Vec<_>, Vec<_>) =
        hollow::below(repository, "refs/swarm/")?.into_iter().partition(|hollow| hollow.why.is_some());
    let more = |all: usize| if all > 1 { format!(" and {} more", all - 1) } else { String::new() };
    if let Some((first, why)) = hidden.first().and_then(|first| Some((&first.name, first.why.as_ref()?))) {
        let text = format!("refs: what {}{} keeps cannot be read: {why}", sanitize::name(first), more(hidden.len()));
        return Ok(Some(Finding { grade: Grade::Bad, text, hint: Some("git fsck".to_owned()) }));
    }
    let Some(first) = gone.first().map(|hollow| &hollow.name) else { return Ok(None) };
    let more = more(gone.len());
    let text = format!("refs: what {}{more} kept is no longer there, and git gc fails on that", sanitize::name(first));
    let hint = format!(
        "swarm clean removes those of runs that ended; one alone: git update-ref -d {}",
        sanitize::shell_word(first)
    );
    Ok(Some(weaker(text, &hint)))
}

fn of_repository(repository: &Repository) -> Result<Vec<Finding>, Failure> {
    let mut findings = vec![good(format!("repository: {}", sanitize::name(&repository.place().to_string_lossy())))];
    findings.push(match repository.resolve("HEAD") {
        Ok(head) => {
            let branch = repository.head_branch()?.map_or("detached".to_owned(), |name| sanitize::name(&name));
            good(format!("base: HEAD is {} ({branch})", words::short(&head.to_string())))
        }
        Err(error) => Finding { grade: Grade::Bad, text: format!("base: failed to {error}"), hint: Some(error.hint()) },
    });
    if repository.workdir().is_none() {
        findings.push(weaker("checkout: none, the repository is bare".to_owned(), "swarm apply needs a clone"));
    }
    let standing = repository.standing()?;
    if standing.history == History::Shallow {
        findings.push(weaker("history: shallow".to_owned(), "git fetch --unshallow"));
    }
    if standing.objects == Objects::Partial {
        let hint = "a task that needs what was never fetched fails; git checkout of its commit fetches it";
        findings.push(weaker("objects: a partial clone".to_owned(), hint));
    }
    findings.extend(of_refs(repository)?);
    let identity = repository.identity()?;
    let author = format!("author: {} <{}>", sanitize::name(&identity.name), sanitize::name(&identity.email));
    findings.push(match identity.source {
        IdentitySource::Configured => good(author),
        IdentitySource::Fallback => weaker(author, "git config user.name and user.email are not set"),
    });
    Ok(findings)
}

fn of_journal(folder: &Path) -> Finding {
    match count_runs(folder) {
        Ok(runs) => good(format!("journal: {}", words::count(runs, "run"))),
        Err(error) => Finding { grade: Grade::Bad, text: format!("journal: failed to {error}"), hint: None },
    }
}

/// Folders that tasks could write whose command was killed.
fn of_unsettled(folders: &[PathBuf]) -> Option<Finding> {
    let names: Vec<_> = folders.iter().map(|folder| sanitize::name(&folder.to_string_lossy())).collect();
    let text = format!("left: nobody looked at what tasks of a killed command left in {}", names.join(", "));
    (!names.is_empty()).then(|| weaker(text, "use no git there before: swarm clean"))
}

fn of_cage(probe: &Probe) -> Vec<Finding> {
    let mut findings = vec![match probe.tier {
        Some(Tier::Namespaces) => good("cage: namespaces, the strongest tier".to_owned()),
        Some(Tier::Landlock) => {
            let set = |name: &str| std::fs::read_to_string(Path::new("/proc/sys").join(name)).ok();
            weaker("cage: landlock, without namespaces".to_owned(), &for_namespaces(set))
        }
        None => Finding {
            grade: Grade::Bad,
            text: "cage: none, no task can run here".to_owned(),
            hint: Some("a Linux kernel with Landlock (5.13 or newer, lsm=…,landlock) is needed".to_owned()),
        },
    }];
    for (name, verdict) in
        [("namespaces", &probe.namespaces), ("overlay worktrees", &probe.overlay), ("landlock", &probe.landlock)]
    {
        findings.extend(verdict.as_ref().map(|verdict| of_verdict(name, verdict)));
    }
    if probe.tier == Some(Tier::Landlock) {
        let hint = "`require = [\"egress\"]` in a policy with a `network` list refuses to run it here";
        findings.push(weaker(format!("network lists: not enforced: {EGRESS_OPEN}"), hint));
    }
    findings
}

/// What lets users make namespaces, by what the kernel is `set` to. Source: user_namespaces(7); the kernel's
/// `admin-guide/sysctl/user.rst`; Ubuntu's `apparmor_restrict_unprivileged_userns`.
fn for_namespaces(set: impl Fn(&str) -> Option<String>) -> String {
    let is = |name: &str, value: &str| set(name).is_some_and(|set| set.trim() == value);
    let sysctl = [
        ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
    ];
    match sysctl.into_iter().find(|(name, closed, _)| is(name, closed)) {
        Some((_, _, open)) => format!("users may make no namespaces here; root lets them: sysctl -w {open}"),
        None => "users may make no namespaces here; a container is given them by docker run --security-opt seccomp=unconfined \
                 --security-opt apparmor=unconfined"
            .to_owned(),
    }
}

/// What a task sees whose plan says nothing about its sandbox.
fn of_default_policy(repository: &Repository, folder: &Path, probe: Probe) -> Result<Vec<Finding>, Failure> {
    // Said already: no cage.
    let Ok(machine) = Machine::of(probe) else { return Ok(Vec::new()) };
    let text = "version = 1\nname = \"doctor\"\n[tasks.any]\nargv = [\"true\"]\n";
    let plan = swarm_plans::parse("doctor", text, &[], &mut |_| Err(String::new())).plan;
    let plan = plan.expect("the plan above has no mistake");
    let policy = &plan.sandboxes[DEFAULT_SANDBOX];
    let places = Places { worktree: repository.place(), git: repository.common_dir(), state: folder };
    let view = View { host: &host()?, places, looked: &Looked::default() };
    let cage = match policy::resolve(DEFAULT_SANDBOX, policy, view, machine.offer(Word::default())) {
        Ok(cage) => cage,
        Err(error) => {
            return Ok(vec![weaker(format!("a default task: failed to {error}"), "name other folders on PATH")]);
        }
    };
    let lines = effective::lines(&cage, policy, &machine, repository.place());
    Ok(vec![good(format!("a default task sees, and nothing else:\n{}", lines.trim_end()))])
}

/// Entries of `PATH` that are no folders of their own: the shell looks for programs where it stands, and a cage never does.
fn of_path(path: &str) -> Option<Finding> {
    let name = |entry: &str| if entry.is_empty() { "an empty entry".to_owned() } else { format!("`{entry}`") };
    let relative: BTreeSet<String> =
        path.split(':').filter(|entry| !path.is_empty() && !entry.starts_with('/')).map(name).collect();
    let names = relative.into_iter().map(|name| sanitize::name(&name)).collect::<Vec<_>>().join(", ");
    let text = format!("PATH: {names} is not absolute, and no task looks there");
    (!names.is_empty()).then(|| weaker(text, "name the folder from the root on"))
}

fn of_verdict(name: &str, verdict: &Verdict) -> Finding {
    match verdict {
        // What that is in full stands once, under the default task.
        Verdict::Works(report) => {
            let (held, not) = (report.enforced.len() as u64, report.not_enforced.len() as u64);
            let not = if not > 0 { format!(", {} not enforced", words::count(not, "thing")) } else { String::new() };
            good(format!("{name}: works, {held} kinds of confinement{not}"))
        }
        Verdict::Fails(refusal) => Finding {
            grade: Grade::Weaker,
            text: sanitize::name(&format!("{name}: fails at {}: {}", refusal.step, refusal.reason)),
            hint: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_users_make_namespaces_is_named() {
        let check = |name: &str, value: &str, expected: &str| {
            let hint = for_namespaces(|asked| (asked == name).then(|| format!("{value}\n")));
            assert!(hint.ends_with(expected), "{hint}");
        };
        check("user/max_user_namespaces", "0", ": sysctl -w user.max_user_namespaces=15000");
        check("kernel/apparmor_restrict_unprivileged_userns", "1", "_restrict_unprivileged_userns=0");
        check("user/max_user_namespaces", "12345", "apparmor=unconfined");
    }

    #[test]
    fn what_of_path_is_no_absolute_folder_is_named() {
        let said = |path: &str| of_path(path).map(|finding| finding.text);
        assert_eq!([said(""), said("/usr/bin:/bin")], [None, None]);
        let text = "PATH: `.`, `bin`, an empty entry is not absolute, and no task looks there";
        assert_eq!(said("/bin::bin:.:bin").as_deref(), Some(text));
    }
}
