//! A policy as it turns out on this machine, in lines for people.

use std::path::Path;

use swarm_orchestrator::machine::Machine;
use swarm_orchestrator::policy::Cage;
use swarm_orchestrator::report::{sanitize, words};
use swarm_plans::{Network, SandboxPolicy};
use swarm_protocol::{Access, Tier};

/// Paths of one kind that are listed.
const PATHS_MAX: usize = 12;

/// The first of many paths, and how many more there are.
fn few(mut paths: Vec<String>) -> Vec<String> {
    let more = paths.len().saturating_sub(PATHS_MAX);
    paths.truncate(PATHS_MAX);
    paths.extend((more > 0).then(|| format!("… and {more} more")));
    paths
}

/// What a task of a policy sees, each line indented and with its line feed.
pub fn lines(cage: &Cage, policy: &SandboxPolicy, machine: &Machine, place: &Path) -> String {
    let shown = |path: &Path| sanitize::name(&path.to_string_lossy());
    let of = |access: Access| {
        let granted = cage.grants().iter().filter(|grant| grant.access == access);
        granted.map(|grant| shown(&grant.path)).collect::<Vec<_>>()
    };
    let mut text = String::new();
    let mut add = |title: &str, entries: Vec<String>| {
        for (at, entry) in entries.iter().enumerate() {
            text.push_str(&format!("    {:<14} {entry}\n", if at == 0 { title } else { "" }));
        }
    };
    let own = format!("its worktree at {}, a private home, a private /tmp", shown(place));
    add("to write", few(std::iter::once(own).chain(of(Access::Write)).collect()));
    add("copy-on-write", few(cage.copy_on_write().iter().map(|path| shown(path)).collect()));
    let system = "the system's own folders (/usr, /bin, /lib, parts of /etc)".to_owned();
    add("to read", few(std::iter::once(system).chain(of(Access::Read)).collect()));
    add("hidden", few(cage.hidden().iter().map(|path| shown(path)).collect()));
    add("variables", vec![cage.variables().map(sanitize::name).collect::<Vec<_>>().join(" ")]);
    let secrets: Vec<String> = cage.secrets().map(|(name, _)| sanitize::name(name)).collect();
    add("masked", (!secrets.is_empty()).then(|| secrets.join(" ")).into_iter().collect());
    add(
        "network",
        match (&policy.network, machine.tier()) {
            (Network::Host, _) => vec!["the host's".to_owned()],
            (Network::Hosts(rules), _) => rules.iter().map(|rule| sanitize::name(&rule.to_string())).collect(),
            (Network::None, Tier::Namespaces) => vec!["its own loopback".to_owned()],
            (Network::None, Tier::Landlock) => vec!["none".to_owned()],
        },
    );
    add("limits", limits(cage, machine));
    add("held by", words::held_by(&machine.held_to(&policy.network)));
    add("odd", cage.warnings.iter().map(|warning| sanitize::name(warning)).collect());
    text
}

/// The limits of every attempt, each with what holds it.
fn limits(cage: &Cage, machine: &Machine) -> Vec<String> {
    let limits = cage.limits();
    let bytes = |count: u64| bytesize::ByteSize(count).to_string();
    let plain = |count: u64| count.to_string();
    let all = [
        ("memory", limits.memory_bytes.map(bytes)),
        ("processes", limits.processes.map(plain)),
        ("open-files", limits.open_files.map(plain)),
        ("disk", limits.disk_bytes.map(bytes)),
        ("files", limits.files.map(plain)),
        ("output", limits.output_bytes.map(bytes)),
    ];
    let held = |name: &str| {
        let of_name = |line: &String| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned);
        machine.enforcement.limits.iter().find_map(of_name).unwrap_or_else(|| "nothing".to_owned())
    };
    all.into_iter().filter_map(|(name, bound)| Some(format!("{name} {}, by {}", bound?, held(name)))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use swarm_orchestrator::policy::{SYSTEM, paths};
    use swarm_sandbox::policy as sandbox;

    #[test]
    fn what_a_plan_may_not_ask_for_the_sandbox_does_not_grant() {
        let set = |folders: &[&[&'static str]]| folders.concat().into_iter().collect::<BTreeSet<_>>();
        assert_eq!(set(&[paths::KERNEL]), set(&[sandbox::KERNEL_FOLDERS]));
        assert_eq!(set(&[SYSTEM, paths::MACHINE]), set(&[sandbox::SYSTEM_FOLDERS]));
        assert_eq!(set(&[paths::SHARED]), set(&[sandbox::SHARED_FOLDERS]));
    }
}
