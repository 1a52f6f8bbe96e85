//! Where a path leads inside the cage: `.`, `..` and links followed name by name, as the kernel does it, with what the job sees.
//!
//! Comes in: a policy, a path as the job would write it, and somebody who knows what the links are that the job sees. Goes out:
//! the plain path that [`crate::evaluate()`] judges. Links of `/proc` and `/dev` are the kernel's and stay as they are, but for those
//! to where the job itself is.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use crate::enforcement::Tier;
use crate::evaluate::{Decision, Rule, evaluate};
use crate::policy::{Access, Policy};

/// Links on the way to a file, as many as the kernel follows. Source: path_resolution(7).
const LINKS_MAX: u32 = 40;

/// The plain path that `path`, absolute, leads to in a cage of `policy`, or the folder on the way that lets nobody through;
/// `None` where links lead in a circle. `link` says what the link at a path that the job sees holds, `None` where there is none.
pub fn reach(policy: &Policy, path: &Path, link: &mut dyn FnMut(&Path) -> Option<PathBuf>) -> Option<PathBuf> {
    let mut at = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = VecDeque::new();
    put_ahead(&mut ahead, path);
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            if is_closed(policy, &at) {
                return Some(at);
            }
            at.pop();
            continue;
        }
        at.push(&name);
        let of_tree = || if is_followed(policy, &at) { link(&at) } else { None };
        let Some(target) = of_process(policy, &at).or_else(of_tree) else { continue };
        links += 1;
        if links > LINKS_MAX {
            return None;
        }
        at.pop();
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        put_ahead(&mut ahead, &target);
    }
    Some(at)
}

/// Whether a path, by its text, can only be that of a folder.
pub fn is_of_a_folder(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    text.ends_with(b"/") || text.ends_with(b"/.") || text.ends_with(b"/..")
}

/// Where the kernel's links lead that say of a job's own process where it is: it starts in the worktree, and its root is its root.
/// Source: proc_pid_cwd(5), proc_pid_root(5).
fn of_process(policy: &Policy, path: &Path) -> Option<PathBuf> {
    let names: Vec<&str> = path.strip_prefix("/proc").ok()?.iter().map(|name| name.to_str().unwrap_or("")).collect();
    let link = match names[..] {
        ["self" | "thread-self", link] | ["self", "task", _, link] => link,
        _ => return None,
    };
    match link {
        "cwd" => Some(policy.get().worktree.at().to_owned()),
        "root" => Some(PathBuf::from("/")),
        _ => None,
    }
}

/// Puts the names of a path before those that are still to be walked.
fn put_ahead(ahead: &mut VecDeque<OsString>, path: &Path) {
    for part in path.components().rev() {
        match part {
            Component::Normal(name) => ahead.push_front(name.to_owned()),
            Component::ParentDir => ahead.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

/// Whether a folder cannot be walked through, not even out of it again: what the namespaces tier hides has a cover that nobody
/// may enter, and what it does not show is not there.
fn is_closed(policy: &Policy, folder: &Path) -> bool {
    policy.get().tier == Tier::Namespaces && !evaluate(policy, folder, Access::Read).is_allowed()
}

/// Whether what lies at a path can be a link that the job follows. The landlock tier refuses to open, not to walk: there a link
/// leads on wherever it lies. Private folders are empty at first.
fn is_followed(policy: &Policy, path: &Path) -> bool {
    if ["/proc", "/dev"].iter().any(|kernel| path.starts_with(kernel)) {
        return false;
    }
    match evaluate(policy, path, Access::Read) {
        Decision::Allowed { rule: Rule::Home | Rule::Temporary | Rule::OnTheWay | Rule::Device } => false,
        // Its content is shown under its own name, wherever the machine keeps it.
        Decision::Allowed { rule: Rule::System(at) } => !(at == path && at.starts_with("/etc")),
        Decision::Allowed { .. } => true,
        Decision::Refused { .. } => policy.get().tier == Tier::Landlock,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Draft, Limits, Network, PathGrant, Worktree};

    fn policy(tier: Tier) -> Policy {
        let worktree = Worktree::Directory { at: "/home/u/repo".into(), path: "/home/u/repo".into() };
        let tool = PathGrant { path: "/opt/tool".into(), at: "/opt/tool".into(), access: Access::Read };
        Draft {
            tier,
            worktree,
            grants: vec![tool],
            copies: Vec::new(),
            hide: vec!["/opt/tool/secret".into()],
            home: "/home/u".into(),
            home_files: Vec::new(),
            tmp: (tier == Tier::Landlock).then(|| "/home/state/tmp".into()),
            network: Network::None,
            limits: Limits::default(),
            landlock_abi_max: None,
        }
        .check()
        .expect("a fine policy")
    }

    /// Where a path leads among these links, in both tiers; `-` is nowhere.
    fn check(links: &[(&str, &str)], path: &str, [mounts, rules]: [&str; 2]) {
        for (tier, expected) in [(Tier::Namespaces, mounts), (Tier::Landlock, rules)] {
            let mut link = |at: &Path| links.iter().find(|(link, _)| at == Path::new(link)).map(|(_, to)| to.into());
            let reached = reach(&policy(tier), Path::new(path), &mut link);
            assert_eq!(reached.as_deref().unwrap_or(Path::new("-")), Path::new(expected), "{tier} {path} {links:?}");
        }
    }

    #[test]
    fn a_path_without_links_leads_where_it_says() {
        for (path, both) in [
            ("/home/u/repo/./a//b", "/home/u/repo/a/b"),
            ("/home/u/repo/a/../b", "/home/u/repo/b"),
            ("/home/u/repo/../../../..", "/"),
            ("/../opt/tool/x", "/opt/tool/x"),
        ] {
            check(&[], path, [both, both]);
        }
    }

    #[test]
    fn what_is_not_shown_lets_nobody_out_again_where_it_is_covered() {
        check(&[], "/opt/tool/secret/../x", ["/opt/tool/secret", "/opt/tool/x"]);
        check(&[], "/opt/tool/secret/deep/../../x", ["/opt/tool/secret/deep", "/opt/tool/x"]);
        check(&[], "/srv/a/../b", ["/srv/a", "/srv/b"]);
        check(&[("/home/u/repo/l", "/opt/tool/secret/..")], "/home/u/repo/l/x", ["/opt/tool/secret", "/opt/tool/x"]);
    }

    #[test]
    fn links_lead_on_from_where_they_lie_or_from_the_root() {
        for (to, both) in [
            ("src/m", "/home/u/repo/src/m/x"),
            ("./src/../m", "/home/u/repo/m/x"),
            ("../../y", "/home/y/x"),
            ("/opt/tool/bin", "/opt/tool/bin/x"),
            ("..", "/home/u/x"),
            ("/", "/x"),
        ] {
            check(&[("/home/u/repo/l", to)], "/home/u/repo/l/x", [both, both]);
        }
        check(&[("/bin", "usr/bin")], "/bin/sh", ["/usr/bin/sh"; 2]);
        check(&[("/home/u/repo/a", "b/c"), ("/home/u/repo/b", "/opt/tool")], "/home/u/repo/a", ["/opt/tool/c"; 2]);
    }

    #[test]
    fn where_a_process_is_leads_back_into_its_tree() {
        for (path, both) in [
            ("/proc/self/cwd/a", "/home/u/repo/a"),
            ("/proc/thread-self/cwd/..", "/home/u"),
            ("/proc/self/task/7/cwd", "/home/u/repo"),
            ("/proc/self/root/opt/tool/x", "/opt/tool/x"),
            ("/proc/self/root/proc/self/root", "/"),
            ("/proc/1/root/etc", "/proc/1/root/etc"),
            ("/proc/self/exe", "/proc/self/exe"),
        ] {
            check(&[], path, [both, both]);
        }
        assert!(is_of_a_folder(Path::new("a/")) && is_of_a_folder(Path::new("a/.")) && !is_of_a_folder(Path::new("a")));
    }

    #[test]
    fn links_in_a_circle_lead_nowhere_and_forty_in_a_row_somewhere() {
        check(&[("/home/u/repo/a", "b"), ("/home/u/repo/b", "a")], "/home/u/repo/a", ["-"; 2]);
        check(&[("/home/u/repo/a", "/home/u/repo/a/x")], "/home/u/repo/a", ["-"; 2]);
        let names: Vec<(String, String)> =
            (0..LINKS_MAX + 1).map(|n| (format!("/home/u/repo/{n}"), (n + 1).to_string())).collect();
        let links: Vec<(&str, &str)> = names.iter().map(|(at, to)| (at.as_str(), to.as_str())).collect();
        check(&links, "/home/u/repo/1", ["/home/u/repo/41"; 2]);
        check(&links, "/home/u/repo/0", ["-"; 2]);
    }

    #[test]
    fn a_link_of_the_host_that_the_job_does_not_see_is_not_followed() {
        let to = |at: &'static str| [(at, "/opt/tool")];
        // Empty at first, whatever the host has there.
        check(&to("/home/u/l"), "/home/u/l/x", ["/home/u/l/x"; 2]);
        check(&to("/home/state/tmp/l"), "/home/state/tmp/l/x", ["/home/state/tmp/l/x"; 2]);
        // A job under rules alone walks through what it cannot open.
        check(&to("/tmp/l"), "/tmp/l/x", ["/tmp/l/x", "/opt/tool/x"]);
        check(&to("/opt/tool/secret/l"), "/opt/tool/secret/l/x", ["/opt/tool/secret/l/x", "/opt/tool/x"]);
        // The kernel's own, and what is shown under its own name wherever it lies.
        check(&to("/proc/self"), "/proc/self/x", ["/proc/self/x"; 2]);
        check(&to("/dev/fd"), "/dev/fd/0", ["/dev/fd/0"; 2]);
        check(&to("/etc/passwd"), "/etc/passwd", ["/etc/passwd"; 2]);
    }
}
