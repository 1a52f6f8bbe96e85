//! What becomes of the repositories that a command made: whoever runs git in one obeys its config and hooks, so those that
//! could make git run something are put aside, and the person is told. Other commands may write the folder meanwhile; what
//! is no longer what was judged is looked for again, and what does not come to rest is told as an error.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use swarm_orchestrator::report::{exit, sanitize};

use crate::commands::failure::Failure;
use crate::commands::made_repository::{Settled, disown, settle, wall_off};
use crate::commands::opened_folder::{Identity, OpenedFolder, shortened};
use crate::commands::repositories::{New, Repositories};
use crate::commands::surroundings::Surroundings;

/// Repositories that are told of one by one.
const NAMED_MAX: usize = 10;
/// Bytes of a path up to which it is told as a word for the shell.
const WORD_BYTES_MAX: usize = 1_000;
/// Looks through the folder, each up to a second or two.
const LOOKS_MAX: u32 = 5;

/// What a command left of what a person should look at before they go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Left {
    /// Nothing.
    Nothing,
    /// Something was put aside, or should have been.
    Aside,
}

impl Left {
    /// What two looks found.
    pub fn and(self, other: Left) -> Left {
        if self == Left::Aside { self } else { other }
    }

    /// The exit code of the command that left it, which would have had this one: what has to be looked at is no success.
    pub fn exit(self, code: u8) -> u8 {
        match (self, code) {
            (Left::Aside, 0) => exit::TASK_FAILED,
            (Left::Nothing | Left::Aside, code) => code,
        }
    }
}

/// Looks at the repositories that were not there before, puts aside those that could make git run something, and says so.
///
/// # Errors
/// Nobody reads what it says; all is settled then.
pub fn settle_new(folder: &OpenedFolder, before: &Repositories, it: &Surroundings) -> Result<Left, Failure> {
    let (lines, left) = settled(folder, before);
    lines.iter().try_for_each(|line| it.err.write(&format!("swarm: {line}\n")))?;
    Ok(left)
}

/// Settles what is new in a folder: what is to be said of it, and whether a person should look.
pub fn settled(folder: &OpenedFolder, before: &Repositories) -> (Vec<String>, Left) {
    let mut settling = Settling::default();
    for _ in 0..LOOKS_MAX {
        settling.look(folder, before);
        if settling.unsettled.is_none() {
            break;
        }
    }
    let (lines, aside) = settling.conclude(folder);
    (lines, if aside { Left::Aside } else { Left::Nothing })
}

/// What was done up to now.
#[derive(Debug, Default)]
struct Settling {
    told: HashSet<Identity>,
    lines: Vec<String>,
    /// Folders that could not be looked through, where they lie now.
    walled: HashSet<Identity>,
    /// Something was put aside or should have been.
    aside: bool,
    /// What was something else when it should be settled than when it was listed, in the last look.
    unsettled: Option<PathBuf>,
}

impl Settling {
    /// Looks through the folder once, and settles each thing as it is found.
    fn look(&mut self, folder: &OpenedFolder, before: &Repositories) {
        self.unsettled = None;
        let walled = self.walled.clone();
        before.each_new(folder, &walled, &mut |new| self.settle(folder, new));
    }

    fn settle(&mut self, folder: &OpenedFolder, new: New) {
        match new {
            New::Part(part) => {
                let settled = settle(folder, &part);
                if let Settled::Changed = settled {
                    self.unsettled = Some(part.path);
                    return;
                }
                self.aside |= !matches!(settled, Settled::Plain);
                self.say(part.identity, || line(folder, &part.path, settled));
            }
            New::State(marker) => match disown(folder, &marker) {
                Ok(None) => self.unsettled = Some(marker.path),
                disowned => {
                    self.aside = true;
                    self.say(marker.identity, || forged(folder, &marker.path, disowned));
                }
            },
            New::Unseen(part, why) => match wall_off(folder, &part) {
                Ok(None) => self.unsettled = Some(part.path),
                walled => {
                    self.aside = true;
                    self.walled.insert(part.identity);
                    self.say(part.identity, || unseen(folder, &part.path, &why, walled));
                }
            },
            New::Blind(path, why) => {
                self.aside = true;
                let line = format!(
                    "error: {} cannot be looked through for a new .git ({why}): use no git in it before you looked",
                    shown(folder, &path)
                );
                if self.lines.len() < NAMED_MAX && !self.lines.contains(&line) {
                    self.lines.push(line);
                }
            }
        }
    }

    /// Says a line of the first few.
    fn say(&mut self, identity: Identity, line: impl FnOnce() -> String) {
        if self.told.insert(identity) && self.told.len() <= NAMED_MAX {
            self.lines.push(line());
        }
    }

    /// What is said, and whether there is something that the person should look at.
    fn conclude(mut self, folder: &OpenedFolder) -> (Vec<String>, bool) {
        if let Some(more) = self.told.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
            self.lines.push(format!(
                "it made {more} more; those that git would obey, or that hold too much, are put aside, too"
            ));
        }
        if let Some(path) = &self.unsettled {
            let path = shown(folder, path);
            self.lines.push(format!(
                "error: a repository here, {path}, could not be judged, because something else changes it: use no git here \
                 before you ended that and looked: find . -name '.git*'"
            ));
        }
        (self.lines, self.aside || self.unsettled.is_some())
    }
}

/// What is said of one.
fn line(folder: &OpenedFolder, path: &Path, settled: Settled) -> String {
    let name = shown(folder, path);
    match settled {
        Settled::Plain | Settled::Changed => format!("it made a repository here, {name}: it runs nothing by itself"),
        Settled::Aside { why, moved } => {
            let back = moved.iter().rev().map(|(was, is)| format!("mv {} {}", shown(folder, is), shown(folder, was)));
            let back = back.collect::<Vec<_>>().join(" && ");
            let why = sanitize::name(&why);
            format!("error: it made a repository here, {name}, and git obeys {why}: put aside{}", undo(path, &back))
        }
        Settled::Obeyed { why, error } => {
            let why = sanitize::name(&why);
            format!("error: it made a repository here, {name}, and git obeys {why}: remove it ({error})")
        }
    }
}

/// What is said of a file that makes swarm take a folder for its own state.
fn forged(folder: &OpenedFolder, path: &Path, disowned: io::Result<Option<PathBuf>>) -> String {
    let name = shown(folder, path);
    let told = format!("error: it made {name}, by which swarm would take that folder for its own state and hide it:");
    match disowned {
        Ok(Some(is)) => format!("{told} put aside{}", undo(path, &format!("mv {} {name}", shown(folder, &is)))),
        Ok(None) => format!("{told} it is gone"),
        Err(error) => format!("{told} remove it ({error})"),
    }
}

/// What is said of a folder that cannot be looked through.
fn unseen(folder: &OpenedFolder, path: &Path, why: &str, walled: io::Result<Option<PathBuf>>) -> String {
    let (name, why) = (shown(folder, path), sanitize::name(why));
    let told = format!("error: it made {name}, which cannot be looked through for a new .git ({why}):");
    match walled {
        Ok(Some(is)) => {
            let is = shown(folder, &is);
            format!("{told} put aside and closed{}", undo(path, &format!("chmod u+rwx {is} && mv {is} {name}")))
        }
        Ok(None) => format!("{told} it is gone"),
        Err(error) => format!("{told} use no git in it before you looked ({error})"),
    }
}

/// How to take back what was done about a path, where a shell takes it.
fn undo(path: &Path, commands: &str) -> String {
    if commands.is_empty() {
        String::new()
    } else if path.as_os_str().len() > WORD_BYTES_MAX {
        "; look for it: find . -name '*.untrusted*'".to_owned()
    } else {
        format!("; look before you undo it: {commands}")
    }
}

/// A path below the folder, as a word for the shell; the middle of a long one is left out.
fn shown(folder: &OpenedFolder, below: &Path) -> String {
    let path = if below.as_os_str().is_empty() { folder.path() } else { below };
    let text = if path.as_os_str().len() > WORD_BYTES_MAX { shortened(path) } else { path.to_string_lossy().into() };
    sanitize::shell_word(&sanitize::name(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `in` is the folder, with a repository of its own that git obeys, and `out` holds another one.
    struct Scene {
        place: tempfile::TempDir,
        folder: OpenedFolder,
        before: Repositories,
    }

    impl Scene {
        fn new() -> Scene {
            let place = tempfile::tempdir().expect("a folder");
            for folder in ["in", "out"] {
                repository(&place.path().join(folder));
            }
            let folder = OpenedFolder::open(&place.path().join("in")).expect("it is there");
            let before = Repositories::below(&folder).expect("it is small");
            Scene { place, folder, before }
        }

        fn at(&self, path: &str) -> PathBuf {
            self.place.path().join(path)
        }

        /// What a look finds, which is settled later.
        fn found(&self) -> Vec<New> {
            let mut found = Vec::new();
            self.before.each_new(&self.folder, &HashSet::new(), &mut |new| found.push(new));
            found
        }

        /// The repositories among it.
        fn paths(&self) -> Vec<PathBuf> {
            let path = |new| match new {
                New::Part(part) => Some(part.path),
                New::State(_) | New::Unseen(..) | New::Blind(..) => None,
            };
            self.found().into_iter().filter_map(path).collect()
        }

        fn rename(&self, from: &str, to: &str) {
            std::fs::rename(self.at(from), self.at(to)).expect("it moves");
        }

        /// What was there before is as it was.
        fn untouched(&self) {
            for head in ["in/.git/HEAD", "out/.git/HEAD"] {
                assert!(self.at(head).exists(), "{head}");
            }
        }
    }

    /// One that git would obey.
    fn repository(folder: &Path) {
        for inside in ["objects", "refs", "hooks"] {
            std::fs::create_dir_all(folder.join(".git").join(inside)).expect("a folder");
        }
        for file in ["HEAD", "hooks/pre-commit"] {
            std::fs::write(folder.join(".git").join(file), "x").expect("a file");
        }
    }

    #[test]
    fn a_link_in_a_folders_place_leads_to_no_other_repository() {
        for target in ["../out", "."] {
            let scene = Scene::new();
            repository(&scene.at("in/made"));
            let new = scene.found();
            assert_eq!(scene.paths(), [Path::new("made/.git")]);
            scene.rename("in/made", "in/gone");
            std::os::unix::fs::symlink(target, scene.at("in/made")).expect("a link");
            let mut settling = Settling::default();
            new.into_iter().for_each(|new| settling.settle(&scene.folder, new));
            assert_eq!(settling.unsettled.as_deref(), Some(Path::new("made/.git")), "{target}");
            scene.untouched();
            // The next look finds it under its new name.
            settling.look(&scene.folder, &scene.before);
            let (lines, aside) = settling.conclude(&scene.folder);
            assert!(
                aside && lines.len() == 1 && lines[0].contains("gone/.git, and git obeys `hooks/pre-commit`"),
                "{lines:?}"
            );
            assert!(scene.at("in/gone/.git.untrusted/HEAD.untrusted").exists());
            scene.untouched();
        }
    }

    #[test]
    fn another_repository_in_the_place_of_the_judged_one_is_not_taken_for_it() {
        let scene = Scene::new();
        repository(&scene.at("in/made"));
        let new = scene.found();
        scene.rename("in/made", "in/gone");
        std::fs::create_dir(scene.at("in/made")).expect("a folder");
        scene.rename("in/.git", "in/made/.git");
        let mut settling = Settling::default();
        new.into_iter().for_each(|new| settling.settle(&scene.folder, new));
        assert!(scene.at("in/made/.git/HEAD").exists());
        let (lines, aside) = settling.conclude(&scene.folder);
        assert!(aside && lines[0].contains("error: a repository here, made/.git, could not be judged"), "{lines:?}");
        // What was there before is nothing new under another name.
        assert_eq!(scene.paths(), [Path::new("gone/.git")]);
    }

    #[test]
    fn a_folder_behind_a_link_is_not_opened_to_its_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let scene = Scene::new();
        let mode = |path: &str| scene.at(path).metadata().expect("it is there").permissions().mode() & 0o777;
        for folder in ["in/a", "out/a"] {
            std::fs::create_dir(scene.at(folder)).expect("a folder");
            std::fs::set_permissions(scene.at(folder), std::fs::Permissions::from_mode(0o500)).expect("it is ours");
        }
        let held = scene.folder.folder(Path::new("a")).expect("it opens").expect("it is there");
        scene.rename("in/a", "in/gone");
        std::os::unix::fs::symlink("../out/a", scene.at("in/a")).expect("a link");
        crate::commands::opened_folder::open_to_owner(&held).expect("it is ours");
        assert_eq!((mode("in/gone"), mode("out/a")), (0o700, 0o500));
    }

    /// Folders in one another, in `from`.
    fn chain(from: &Path, names: usize) {
        use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
        let (flags, name) = (OFlags::DIRECTORY | OFlags::CLOEXEC, "n".repeat(240));
        let mut at = open(from, flags, Mode::empty()).expect("a folder");
        for _ in 0..names {
            mkdirat(&at, &name, Mode::RWXU).expect("a folder");
            at = openat(&at, &name, flags, Mode::empty()).expect("a folder");
        }
    }

    fn settled(scene: &Scene) -> (Vec<String>, bool) {
        let mut settling = Settling::default();
        settling.look(&scene.folder, &scene.before);
        settling.conclude(&scene.folder)
    }

    #[test]
    fn a_path_that_the_kernel_does_not_take_is_in_no_ones_way() {
        let scene = Scene::new();
        repository(&scene.at("in/made"));
        chain(&scene.at("in"), 18);
        let (lines, aside) = settled(&scene);
        assert!(
            aside && lines.len() == 1 && lines[0].contains("made/.git, and git obeys `hooks/pre-commit`"),
            "{lines:?}"
        );
        assert!(!scene.at("in/made/.git").exists());
        // And in none of the next command's.
        assert!(Repositories::below(&scene.folder).is_ok());
    }

    #[test]
    fn what_a_command_calls_a_state_folder_is_put_aside_and_hides_nothing() {
        let scene = Scene::new();
        swarm_orchestrator::state::StateDir::open(&scene.at("in/made/st")).expect("a state folder");
        repository(&scene.at("in/made/st/x"));
        let (lines, aside) = settled(&scene);
        assert!(aside && lines.len() == 2, "{lines:?}");
        let back = "put aside; look before you undo it: mv made/st/SWARM-STATE.untrusted made/st/SWARM-STATE";
        assert!(lines[0].contains("error: it made made/st/SWARM-STATE,") && lines[0].contains(back), "{lines:?}");
        assert!(!scene.at("in/made/st/x/.git").exists());
        // The next command looks into it, too.
        let next = Repositories::below(&scene.folder).expect("it is small");
        assert_eq!(next.states().count(), 0);
        assert_eq!((Left::Aside.exit(0), Left::Aside.exit(5), Left::Nothing.exit(0)), (1, 5, 0));
    }

    #[test]
    fn more_repositories_than_can_be_mounted_are_settled_all_the_same() {
        let scene = Scene::new();
        (0..1005)
            .for_each(|number| std::fs::create_dir_all(scene.at(&format!("in/k/{number}/.git"))).expect("a folder"));
        repository(&scene.at("in/made"));
        let (lines, aside) = settled(&scene);
        assert!(aside && lines.last().is_some_and(|line| line.contains("it made 996 more")), "{lines:?}");
        assert!(!scene.at("in/made/.git").exists());
    }

    #[test]
    fn what_cannot_be_looked_through_is_closed_under_another_name() {
        let scene = Scene::new();
        repository(&scene.at("in/made"));
        std::fs::create_dir(scene.at("in/deep")).expect("a folder");
        chain(&scene.at("in/deep"), 70);
        let (lines, aside) = settled(&scene);
        assert!(aside && lines.len() == 2 && !scene.at("in/made/.git").exists(), "{lines:?}");
        let why =
            "it made deep, which cannot be looked through for a new .git (it holds paths that are too long): put aside";
        let back = "chmod u+rwx deep.untrusted && mv deep.untrusted deep";
        assert!(lines.iter().any(|line| line.contains(why) && line.contains(back)), "{lines:?}");
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &scene.at("in/deep.untrusted").metadata().expect("there").permissions(),
        );
        assert_eq!(mode & 0o777, 0);
        // So that it can be removed.
        std::fs::set_permissions(scene.at("in/deep.untrusted"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .expect("it is ours");
        scene.untouched();
    }
}
