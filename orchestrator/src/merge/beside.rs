//! What stands where one side has a folder and the other a file: the folder, and beside it the file, under a name that says
//! whose it is. Git does the same (`PATH~SIDE`; git-merge(1) leaves the name to the strategy, `unique_path` in merge-ort.c).

use std::collections::BTreeSet;

use git2::{Odb, Oid};

use super::file::{self, Kind};
use super::fold::{ConflictKind, ConflictPath, FoldError, Step};
use super::text::Labels;
use super::touched::ConflictPlace;
use crate::entry_name::{folded, is_git_dir, is_steering_file};
use crate::tree::{self, Edits, Entry, TreeError};

/// The longest name of a file that Linux has, in bytes. Source: `NAME_MAX` in limits.h(0p).
const NAME_BYTES_MAX: usize = 255;

/// The longest part of such a name that says whose the file is, in bytes.
const WHOSE_BYTES_MAX: usize = 60;

/// Changes `edits` of `ours`, in which some of the `places` already stand with markers, so that no path has to be a folder and
/// a file at once. The places with a file beside the folder are marked as such, or added.
///
/// # Errors
/// [`FoldError`] when objects cannot be read or written.
pub(super) fn set_beside(
    odb: &Odb<'_>,
    (ours, theirs): (Oid, &Step<'_>),
    edits: &mut Edits,
    places: &mut Vec<ConflictPlace>,
    labels: &Labels,
) -> Result<(), FoldError> {
    for path in contested(odb, ours, edits)? {
        let find = |tree| tree::find(odb, tree, &path);
        let versions = [find(theirs.base)?, find(ours)?, find(theirs.result)?];
        let known = places.iter().position(|place| place.at.path == path);
        let edited = edits.get(&path).copied().flatten();
        let file = match (known, file_of_one_side(versions), edited) {
            (Some(_), Some(file), _) | (_, _, Some(file)) => Some(file),
            _ => leaf(versions[1]),
        };
        let file = match file.filter(|file| Kind::of(*file) != Kind::Gitlink) {
            Some(file) => file,
            None => file::marked(odb, versions, labels)?,
        };
        let name = free_name(odb, &path, whose(versions, labels), [ours, theirs.result], edits)?;
        match leaf(versions[1]) {
            Some(_) => edits.insert(path.clone(), None),
            // Nothing of ours goes: the folder is there, or is made by what is put below it.
            None => edits.remove(&path),
        };
        edits.insert(name.clone(), Some(file));
        let at = ConflictPath { path, kind: ConflictKind::FolderFile, moved_to: None };
        let place = ConflictPlace { at, versions, beside: Some(name) };
        match known {
            Some(known) => places[known] = place,
            None => places.push(place),
        }
    }
    places.sort_by(|a, b| a.at.path.cmp(&b.at.path));
    Ok(())
}

/// The paths that would have to be a folder and something else at once when `edits` are made in `ours`.
fn contested(odb: &Odb<'_>, ours: Oid, edits: &Edits) -> Result<BTreeSet<Vec<u8>>, TreeError> {
    let mut found = BTreeSet::new();
    for path in edits.iter().filter(|(_, entry)| entry.is_some()).map(|(path, _)| path) {
        for folder in folders(path) {
            let is_file = match edits.get(folder) {
                Some(edited) => edited.is_some(),
                None => leaf(tree::find(odb, ours, folder)?).is_some(),
            };
            if is_file {
                found.insert(folder.to_vec());
            }
        }
        let Some(folder) = tree::find(odb, ours, path)?.filter(|entry| entry.is_tree()) else { continue };
        let inside = tree::diff(odb, None, Some(folder.id))?;
        let stays = |below: &[u8]| edits.get(&[path, b"/".as_slice(), below].concat()) != Some(&None);
        if inside.iter().any(|file| stays(&file.path)) {
            found.insert(path.clone());
        }
    }
    Ok(found)
}

/// The folders above a path, topmost first.
pub(super) fn folders(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

fn leaf(version: Option<Entry>) -> Option<Entry> {
    version.filter(|entry| !entry.is_tree())
}

/// The file where only one of the two sides has one.
fn file_of_one_side([_, ours, theirs]: [Option<Entry>; 3]) -> Option<Entry> {
    leaf(ours).xor(leaf(theirs))
}

/// The label of the side that has a file there; that of theirs where both have, of the base where none does.
fn whose([_, ours, theirs]: [Option<Entry>; 3], labels: &Labels) -> &str {
    match (leaf(ours), leaf(theirs)) {
        (_, Some(_)) => &labels.theirs,
        (Some(_), None) => &labels.ours,
        (None, None) => &labels.base,
    }
}

/// `PATH~WHOSE`, with a number behind it where a side has something of that name or no checkout may have it.
fn free_name(odb: &Odb<'_>, path: &[u8], whose: &str, sides: [Oid; 2], edits: &Edits) -> Result<Vec<u8>, TreeError> {
    let (folder, name) = path.split_at(path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1));
    let mut taken: BTreeSet<Vec<u8>> = BTreeSet::new();
    for side in sides {
        if let Some(there) = tree::find(odb, side, folder)?.filter(|entry| entry.is_tree()) {
            taken.extend(tree::list(odb, there.id)?.iter().map(|(name, _)| folded(name)));
        }
    }
    let edited = edits.keys().filter_map(|path| path.strip_prefix(folder));
    taken.extend(edited.filter_map(|below| below.split(|&byte| byte == b'/').next()).map(folded));
    let whose = spelled(whose);
    let named = |number: usize| {
        let behind = if number == 0 { format!("~{whose}") } else { format!("~{whose}_{number}") };
        [cut(name, NAME_BYTES_MAX - behind.len()), behind.as_bytes()].concat()
    };
    let is_free = |name: &Vec<u8>| !taken.contains(&folded(name)) && !is_git_dir(name) && !is_steering_file(name);
    let free = (0..).map(named).find(is_free).expect("numbers do not end, names that are taken do");
    Ok([folder, &free].concat())
}

/// A label as a part of a file's name that needs no quotes.
fn spelled(whose: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || c == '-' || c == '.' { c } else { '_' };
    let spelled: String = whose.chars().map(plain).collect();
    let end = spelled.floor_char_boundary(WHOSE_BYTES_MAX);
    spelled[..end].trim_end_matches(['_', '.']).to_owned()
}

/// The beginning of a name, without half a character.
fn cut(name: &[u8], bytes_max: usize) -> &[u8] {
    match std::str::from_utf8(name) {
        Ok(text) => &name[..text.floor_char_boundary(bytes_max)],
        Err(_) => &name[..name.len().min(bytes_max)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::FileRules;
    use crate::merge::touched::{conflicted, still_unsettled};
    use crate::tree::FILE;

    struct Scene {
        git: git2::Repository,
        _folder: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Scene {
            let folder = tempfile::tempdir().expect("a temporary folder");
            Scene { git: git2::Repository::init_bare(folder.path()).expect("an empty repository"), _folder: folder }
        }

        fn tree(&self, files: &[(&str, &str)]) -> Oid {
            let odb = self.git.odb().expect("its object store");
            let blob = |text: &str| odb.write(git2::ObjectType::Blob, text.as_bytes()).expect("space");
            let entry = |text: &str| Some(Entry { mode: FILE, id: blob(text) });
            let edits = files.iter().map(|(path, text)| (path.as_bytes().to_vec(), entry(text))).collect();
            tree::edit(&odb, None, &edits).expect("legal").expect("it has files")
        }

        fn files(&self, tree: Oid) -> Vec<(String, String)> {
            let odb = self.git.odb().expect("its object store");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let all = tree::diff(&odb, None, Some(tree)).expect("it was written");
            all.iter()
                .map(|it| (text(&it.path), text(odb.read(it.new.expect("a file").id).expect("it").data())))
                .collect()
        }

        /// The files of the opened conflict between `ours` and `theirs` (whose name is `whose`), and those beside folders.
        fn opened(&self, whose: &str, versions: [&[(&str, &str)]; 3]) -> (Vec<(String, String)>, Vec<String>) {
            let [base, ours, result] = versions.map(|files| self.tree(files));
            let labels = Labels { base: "before both".into(), ours: "landed".into(), theirs: whose.into() };
            let (odb, step) = (self.git.odb().expect("its object store"), Step { base, result, writes: None });
            let opened = conflicted(&odb, &FileRules::default(), (ours, &step), &labels).expect("a tree");
            let unsettled = still_unsettled(&odb, opened.tree, &opened.places).expect("readable");
            assert_eq!(unsettled.beside.len() + unsettled.marked.len(), opened.places.len(), "all is to be settled");
            let text = |path: Vec<u8>| String::from_utf8_lossy(&path).into_owned();
            (self.files(opened.tree), opened.places.into_iter().filter_map(|it| it.beside).map(text).collect())
        }
    }

    #[test]
    fn a_file_that_is_lost_is_named_when_its_conflict_is_looked_at() {
        let scene = Scene::new();
        let [base, ours, result] = ["0\n", "1\n", "2\n"].map(|text| scene.tree(&[("a", text)]));
        let labels = Labels { base: "before both".into(), ours: "landed".into(), theirs: "b".into() };
        let (odb, step) = (scene.git.odb().expect("its object store"), Step { base, result, writes: None });
        let opened = conflicted(&odb, &FileRules::default(), (ours, &step), &labels).expect("a tree");
        let lost = Oid::hash_object(git2::ObjectType::Blob, b"nobody wrote it").expect("an id");
        let edits = [(b"a".to_vec(), Some(Entry { mode: FILE, id: lost }))].into_iter().collect();
        let tree = tree::edit(&odb, None, &edits).expect("legal").expect("it has files");
        let error = still_unsettled(&odb, tree, &opened.places).expect_err("it is not there");
        assert!(matches!(error, FoldError::Missing { id } if id == lost), "{error}");
    }

    #[test]
    fn markers_count_in_a_file_that_is_larger_than_any_that_is_merged() {
        let scene = Scene::new();
        let rest = "x".repeat(70 << 20);
        let [base, ours, result] = ["0\n", "1\n", "2\n"].map(|text| scene.tree(&[("a", text)]));
        let labels = Labels { base: "before both".into(), ours: "landed".into(), theirs: "b".into() };
        let (odb, step) = (scene.git.odb().expect("its object store"), Step { base, result, writes: None });
        let opened = conflicted(&odb, &FileRules::default(), (ours, &step), &labels).expect("a tree");
        for (text, marked) in [(format!("{rest}\n=======\n"), 1), (rest, 0)] {
            let tree = scene.tree(&[("a", &text)]);
            let left = still_unsettled(&odb, tree, &opened.places).expect("readable");
            assert_eq!(left.marked.len(), marked);
        }
    }

    fn owned(files: &[(&str, &str)]) -> Vec<(String, String)> {
        files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect()
    }

    #[test]
    fn the_folder_stays_and_the_file_stands_beside_it_whoever_has_it() {
        let scene = Scene::new();
        let (file, folder) = (&[("k", "k"), ("d/x", "file")][..], &[("k", "k"), ("d/x/y", "inside")][..]);
        let opened = scene.opened("fix[n=a/b]", [&[("k", "k")], file, folder]);
        let want = owned(&[("d/x/y", "inside"), ("d/x~landed", "file"), ("k", "k")]);
        assert_eq!(opened, (want, vec!["d/x~landed".to_owned()]));
        let opened = scene.opened("fix[n=a/b]", [&[("k", "k")], folder, file]);
        let want = owned(&[("d/x/y", "inside"), ("d/x~fix_n_a_b", "file"), ("k", "k")]);
        assert_eq!(opened, (want, vec!["d/x~fix_n_a_b".to_owned()]));
    }

    #[test]
    fn a_file_that_one_side_changed_and_the_other_made_a_folder_of_is_shown_as_it_was_changed() {
        let scene = Scene::new();
        let [base, folder, file] = [[("x", "old")], [("x/y", "inside")], [("x", "new")]];
        for (versions, whose) in [([&base, &folder, &file], "x~b"), ([&base, &file, &folder], "x~landed")] {
            let opened = scene.opened("b", versions.map(|files| &files[..]));
            assert_eq!(opened, (owned(&[("x/y", "inside"), (whose, "new")]), vec![whose.to_owned()]));
        }
    }

    #[test]
    fn the_name_is_free_on_every_system_and_no_name_that_git_reads() {
        let scene = Scene::new();
        let ours = &[("git/y", "inside"), ("GIT~1_1", "mine"), ("k", "k")];
        let (_, beside) = scene.opened("1", [&[("k", "k")], ours, &[("git", "file"), ("k", "k")]]);
        assert_eq!(beside, ["git~1_2"]);
        let long = "ü".repeat(127);
        let folder = format!("{long}/y");
        let (files, beside) =
            scene.opened("b", [&[("k", "k")], &[(&folder, "1"), ("k", "k")], &[(&long, "2"), ("k", "k")]]);
        assert_eq!((beside, files.len()), (vec![format!("{}~b", "ü".repeat(126))], 3));
    }
}
