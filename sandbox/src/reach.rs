//! Where a path leads inside the cage: `.`, `..` and links followed name by name, as the kernel does it, with what the job sees.
//!
//! Comes in: a policy, a path as the job would write it, and somebody who knows what the links are that the job sees. Goes out:
//! the plain path that [`crate::evaluate()`] judges. Links of `/proc` and `/dev` are the kernel's and stay as they are.

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
        let Some(target) = Some(&at).filter(|at| is_followed(policy, at)).and_then(|at| link(at)) else { continue };
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
