//! What becomes of the repositories that a command made: whoever runs git in one obeys its config and hooks, so those that
//! could make git run something are put aside, and the person is told. Other commands may write the folder meanwhile; what
//! is no longer what was judged is looked for again, and what does not come to rest is told as an error.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use swarm_orchestrator::report::sanitize;

use crate::commands::failure::Failure;
use crate::commands::made_repository::{Settled, settle};
use crate::commands::opened_folder::OpenedFolder;
use crate::commands::repositories::{Part, Repositories};
use crate::commands::surroundings::Surroundings;

/// Repositories that are told of one by one.
const NAMED_MAX: usize = 10;
/// Looks through the folder, each up to a second or two.
const LOOKS_MAX: u32 = 5;

/// Looks at the repositories that were not there before, puts aside those that could make git run something, and says so;
/// whether there were any, or any that could not be judged.
///
/// # Errors
/// Nobody reads what it says; all is settled then.
pub fn settle_new(folder: &OpenedFolder, before: &Repositories, it: &Surroundings) -> Result<bool, Failure> {
    let mut settling = Settling::default();
    for _ in 0..LOOKS_MAX {
        match before.new_below(folder) {
            Ok(new) => settling.settle(folder, &new),
            Err(_) => settling.blind(),
        }
        if settling.unsettled.is_none() {
            break;
        }
    }
    let (lines, aside) = settling.conclude(folder);
    lines.iter().try_for_each(|line| it.err.write(&format!("swarm: {line}\n")))?;
    Ok(aside)
}

/// What was done up to now.
#[derive(Debug, Default)]
struct Settling {
    told: BTreeSet<PathBuf>,
    lines: Vec<String>,
    /// Something was put aside or should have been.
    aside: bool,
    /// What was something else when it should be settled than when it was listed, in the last look.
    unsettled: Option<PathBuf>,
}

impl Settling {
    /// Settles what one look has found.
    fn settle(&mut self, folder: &OpenedFolder, new: &[Part]) {
        self.unsettled = None;
        for part in new {
            let settled = settle(folder, part);
            if let Settled::Changed = settled {
                self.unsettled = Some(part.path.clone());
                continue;
            }
            self.aside |= !matches!(settled, Settled::Plain);
            if self.told.insert(part.path.clone()) && self.told.len() <= NAMED_MAX {
                self.lines.push(line(folder, &part.path, settled));
            }
        }
    }

    /// The folder cannot be looked through.
    fn blind(&mut self) {
        self.unsettled = None;
        self.aside = true;
        let line =
            "error: it left more here than can be looked through for a new .git: use no git here before you looked";
        self.lines.push(line.to_owned());
    }

    /// What is said, and whether there is something that the person should look at.
    fn conclude(mut self, folder: &OpenedFolder) -> (Vec<String>, bool) {
        if let Some(more) = self.told.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
            self.lines.push(format!("it made {more} more; those that git would obey are put aside, too"));
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
            let back = if back.is_empty() { String::new() } else { format!("; look before you undo it: {back}") };
            let why = sanitize::name(&why);
            format!("error: it made a repository here, {name}, and git obeys {why}: put aside{back}")
        }
        Settled::Obeyed { why, error } => {
            let why = sanitize::name(&why);
            format!("error: it made a repository here, {name}, and git obeys {why}: remove it ({error})")
        }
    }
}

/// A path below the folder, as a word for the shell.
fn shown(folder: &OpenedFolder, below: &Path) -> String {
    let path = if below.as_os_str().is_empty() { folder.path() } else { below };
    sanitize::shell_word(&sanitize::name(&path.to_string_lossy()))
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

        fn new_parts(&self) -> Vec<Part> {
            self.before.new_below(&self.folder).expect("it is small")
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
            let new = scene.new_parts();
            assert_eq!(new.iter().map(|part| &*part.path).collect::<Vec<_>>(), [Path::new("made/.git")]);
            scene.rename("in/made", "in/gone");
            std::os::unix::fs::symlink(target, scene.at("in/made")).expect("a link");
            let mut settling = Settling::default();
            settling.settle(&scene.folder, &new);
            assert_eq!(settling.unsettled.as_deref(), Some(Path::new("made/.git")), "{target}");
            scene.untouched();
            // The next look finds it under its new name.
            settling.settle(&scene.folder, &scene.new_parts());
            let (lines, aside) = settling.conclude(&scene.folder);
            assert!(aside && lines.len() == 1 && lines[0].contains("gone/.git, and git obeys `hooks`"), "{lines:?}");
            assert!(scene.at("in/gone/.git.untrusted/HEAD.untrusted").exists());
            scene.untouched();
        }
    }

    #[test]
    fn another_repository_in_the_place_of_the_judged_one_is_not_taken_for_it() {
        let scene = Scene::new();
        repository(&scene.at("in/made"));
        let new = scene.new_parts();
        scene.rename("in/made", "in/gone");
        std::fs::create_dir(scene.at("in/made")).expect("a folder");
        scene.rename("in/.git", "in/made/.git");
        let mut settling = Settling::default();
        settling.settle(&scene.folder, &new);
        assert!(scene.at("in/made/.git/HEAD").exists());
        let (lines, aside) = settling.conclude(&scene.folder);
        assert!(aside && lines[0].contains("error: a repository here, made/.git, could not be judged"), "{lines:?}");
        // What was there before is nothing new under another name.
        let new: Vec<_> = scene.new_parts().into_iter().map(|part| part.path).collect();
        assert_eq!(new, [Path::new("gone/.git")]);
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
}
