//! Reading, writing and editing files of the worktree. A file is changed only as it was read: its content is hashed when
//! the model sees it and again before it is replaced, so what a command or another call changed meanwhile is never lost.
//! Links are not followed out of the worktree, and a file is replaced as a whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use similar::TextDiff;
use swarm_protocol::git_dir::is_git_dir;

use super::seen::Seen;
use super::{Refused, TEXT_BYTES_MAX, ToolResult, bounded, mode};
use crate::agent::beneath;
use crate::agent::edit::{self, Edit};
use crate::agent::notebook::{self, Change};
use crate::agent::passage::{dominant_end, lines};
use crate::agent::patch::{self, FilePatch};
use crate::agent::placeholder;

/// The longest file that is read or written, in bytes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Lines that one call reads where it does not say.
const READ_LINES: usize = 1000;
/// The longest line that is shown whole, in bytes.
const LINE_BYTES_MAX: usize = 2000;
/// Folders above a new file: a result with more is refused.
const FOLDERS_MAX: usize = 128;
/// Lines of context in a diff.
const DIFF_CONTEXT: usize = 2;
/// What some editors begin a file with.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The files of a worktree, and what the model knows of them.
#[derive(Debug)]
pub struct Files {
    root: OwnedFd,
    root_path: PathBuf,
    /// Contents as the model saw them last.
    seen: HashMap<String, Seen>,
}

/// A file as it stands.
struct Content {
    /// Without a byte order mark.
    text: String,
    marked: bool,
    mode: Mode,
    hash: blake3::Hash,
}

impl Files {
    /// The files below `root`.
    ///
    /// # Errors
    /// Those of opening a folder.
    pub fn new(root: &Path) -> std::io::Result<Files> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, root, flags, Mode::empty())?;
        Ok(Files { root: folder, root_path: root.to_owned(), seen: HashMap::new() })
    }

    /// Lines of a file with their numbers; `first` counts from 1.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn read(&mut self, path: &str, first: Option<usize>, count: Option<usize>) -> ToolResult {
        let path = plain(&self.root_path, path)?;
        let content = self.content(&path)?.ok_or_else(|| self.missing(&path))?;
        if path.ends_with(".ipynb")
            && first.is_none()
            && let Ok(shown) = notebook::show(&content.text)
        {
            self.seen.insert(path, Seen::none(content.hash));
            return Ok(bounded(&shown, TEXT_BYTES_MAX));
        }
        let all: Vec<&str> = lines(&content.text).iter().map(|line| line.text).collect();
        let seen = self.seen.entry(path.clone()).or_insert_with(|| Seen::none(content.hash));
        if seen.hash != content.hash {
            *seen = Seen::none(content.hash);
        }
        if all.is_empty() {
            return Ok(format!("{path} is empty"));
        }
        let first = first.unwrap_or(1).max(1);
        if first > all.len() {
            return Err(Refused::new(format!("{path} has {} lines", all.len())));
        }
        let mut shown = String::new();
        let mut last = first - 1;
        for (at, line) in all.iter().enumerate().skip(first - 1).take(count.unwrap_or(READ_LINES).max(1)) {
            if shown.len() + line.len().min(LINE_BYTES_MAX) > TEXT_BYTES_MAX {
                break;
            }
            shown.push_str(&format!("{:>6}\t{}\n", at + 1, bounded(line, LINE_BYTES_MAX).replace('\n', " ")));
            last = at + 1;
        }
        seen.show(first - 1..last);
        if last < all.len() {
            shown.push_str(&format!("[{} more lines; read on from line {}]\n", all.len() - last, last + 1));
        }
        Ok(shown)
    }

    /// Writes a whole file; one that exists must have been read as it stands.
    ///
    /// # Errors
    /// [`Refused`]; the file is as it was.
    pub fn write(&mut self, path: &str, text: &str) -> ToolResult {
        let path = plain(&self.root_path, path)?;
        let before = self.content(&path)?;
        let marked = before.as_ref().is_some_and(|before| before.marked);
        let text = text.strip_prefix(BYTE_ORDER_MARK).filter(|_| marked).unwrap_or(text);
        if let Some(before) = &before {
            let all = 0..lines(&before.text).len();
            if let Some(line) = self.known(&path, before)?.first_unseen(all) {
                return Err(unseen(&path, line));
            }
        }
        if before.is_none() {
            may_be_new(&path)?;
        }
        let old = before.as_ref().map_or("", |before| before.text.as_str());
        if let Some((line, words)) = placeholder::find(old, text) {
            let words = format!("line {line} stands for text that is not there: `{words}`; write the whole file");
            return Err(Refused(words));
        }
        let text = match &before {
            Some(before) if !text.contains('\r') => text.replace('\n', dominant_end(&lines(&before.text))),
            _ => text.to_owned(),
        };
        if before.as_ref().is_some_and(|before| before.text == text) {
            return Err(Refused::new(format!("{path} holds exactly this already")));
        }
        let diff = difference(&path, old, &text);
        self.put(&path, &text, before.as_ref())?;
        Ok(diff)
    }

    /// Replaces passages of a file, in order; all or none.
    ///
    /// # Errors
    /// [`Refused`]; the file is as it was.
    pub fn edit(&mut self, path: &str, edits: &[Edit<'_>]) -> ToolResult {
        let path = plain(&self.root_path, path)?;
        let before = self.content(&path)?.ok_or_else(|| self.missing(&path))?;
        let seen = self.known(&path, &before)?;
        let (mut text, mut notes) = (before.text.clone(), String::new());
        for (n, edit) in edits.iter().enumerate() {
            let number = if edits.len() > 1 { format!("edit {}: ", n + 1) } else { String::new() };
            let edited = edit::apply(&text, edit).map_err(|error| Refused(format!("{path}: {number}{error}")))?;
            if edited.rung != crate::agent::passage::Rung::Exact {
                notes.push_str(&format!("{number}`old` fits {}\n", edited.rung.words()));
            }
            text = edited.text;
        }
        if text == before.text {
            return Err(Refused::new(format!("{path}: nothing would change")));
        }
        if let Some(line) = seen.first_unseen_of(&before.text, &text) {
            return Err(unseen(&path, line));
        }
        let diff = difference(&path, &before.text, &text);
        self.put(&path, &text, Some(&before))?;
        Ok(notes + &diff)
    }

    /// Changes one cell of a notebook that was read.
    ///
    /// # Errors
    /// [`Refused`]; the file is as it was.
    pub fn notebook(&mut self, path: &str, change: &Change) -> ToolResult {
        let path = plain(&self.root_path, path)?;
        let before = self.content(&path)?.ok_or_else(|| self.missing(&path))?;
        self.known(&path, &before)?;
        let changed = notebook::apply(&before.text, change).map_err(|error| Refused(format!("{path}: {error}")))?;
        if let Some((line, words)) = placeholder::find(&changed.before, &changed.after) {
            return Err(Refused(format!(
                "line {line} stands for text that is not there: `{words}`; write the whole cell"
            )));
        }
        self.put(&path, &changed.text, Some(&before))?;
        Ok(difference(&path, &changed.before, &changed.after))
    }

    /// Applies a patch to all of its files, or to none.
    ///
    /// # Errors
    /// [`Refused`]; no file is touched but where the file system fails in the middle, which is said.
    pub fn patch(&mut self, text: &str) -> ToolResult {
        let patches = patch::parse(text).map_err(|error| Refused(error.to_string()))?;
        let spelled = patches.into_iter().map(|patch| patch.spelled(|path| plain(&self.root_path, path)));
        let patches = spelled.collect::<Result<Vec<FilePatch>, Refused>>()?;
        let mut before: BTreeMap<String, Option<Content>> = BTreeMap::new();
        let mut failure = None;
        let mut read = |path: &str| match self.content(path) {
            Ok(content) => {
                let text = content.as_ref().map(|content| content.text.clone());
                before.insert(path.to_owned(), content);
                text
            }
            Err(refused) => {
                failure.get_or_insert(refused);
                None
            }
        };
        let after = patch::apply(&patches, &mut read);
        if let Some(refused) = failure {
            return Err(refused);
        }
        let after = after.map_err(|error| Refused(error.to_string()))?;
        for (path, text) in &after {
            self.may_stand(path, text.as_deref(), &after)?;
        }
        let mut shown = String::new();
        let mut planned = vec![];
        for (path, text) in after {
            let old = before.remove(&path).flatten();
            if let Some(old) = &old {
                self.may_patch(&path, old, &patches)?;
            }
            let (from, to) = (old.as_ref().map_or("", |old| &old.text), text.as_deref().unwrap_or(""));
            shown.push_str(&difference(&path, from, to));
            planned.push((path, text, old));
        }
        let mode_of =
            |path: &str| planned.iter().find(|(old, ..)| old == path).and_then(|(.., old)| Some(old.as_ref()?.mode));
        let modes: BTreeMap<String, Mode> =
            patch::moves(&patches).filter_map(|(from, to)| Some((to.to_owned(), mode_of(from)?))).collect();
        for (done, (path, text, old)) in planned.iter().enumerate() {
            let written = match text {
                Some(text) => self.put_as(path, text, old.as_ref(), modes.get(path).copied()),
                None => self.remove(path),
            };
            if let Err(refused) = written {
                return Err(self.undo(&planned[..done], refused));
            }
        }
        Ok(bounded(&shown, TEXT_BYTES_MAX))
    }

    /// Puts back what a patch changed before it failed; what it says names the files where even that failed.
    fn undo(&mut self, done: &[(String, Option<String>, Option<Content>)], refused: Refused) -> Refused {
        let mut stays = vec![];
        for (path, _, before) in done.iter().rev() {
            let undone = match before {
                Some(before) => self.put(path, &before.text, Some(before)),
                None => self.remove(path),
            };
            if undone.is_err() {
                stays.push(path.as_str());
            }
        }
        match stays.is_empty() {
            true => refused,
            false => Refused(format!("{refused}; already changed: {}", stays.join(", "))),
        }
    }

    /// A patch quotes what it changes, so a file that was never read may be patched by what it quotes; one that was read has
    /// to be as it was, and what is removed, moved or added to without a quotation has to be known.
    fn may_patch(&self, path: &str, now: &Content, patches: &[FilePatch]) -> Result<(), Refused> {
        let quotes = |patch: &FilePatch| match patch {
            FilePatch::Update { path: named, hunks, .. } => {
                named == path && !hunks.is_empty() && hunks.iter().all(|hunk| !hunk.old.is_empty())
            }
            FilePatch::Add { .. } | FilePatch::Delete { .. } => false,
        };
        if !self.seen.contains_key(path) && patches.iter().any(quotes) {
            return Ok(());
        }
        self.known(path, now).map(drop)
    }

    /// Whether a patch that leaves `after` can leave a file as `text`, found out before anything is written: nothing but
    /// folders lies on its way, it is no link, and it is not too large.
    fn may_stand(
        &self,
        path: &str,
        text: Option<&str>,
        after: &BTreeMap<String, Option<String>>,
    ) -> Result<(), Refused> {
        for folder in path.match_indices('/').map(|(at, _)| &path[..at]) {
            let goes = match after.get(folder) {
                Some(Some(_)) => return Err(no_folder(path, folder)),
                Some(None) => true,
                None => false,
            };
            match self.root_path.join(folder).symlink_metadata() {
                Ok(facts) if !facts.is_dir() && !goes => return Err(no_folder(path, folder)),
                // It is made where it is missing; what else is made may still lie on the way.
                Ok(_) | Err(_) => {}
            }
        }
        if text.is_some() && self.root_path.join(path).symlink_metadata().is_err() {
            may_be_new(path)?;
        }
        match (text, std::fs::read_link(self.root_path.join(path))) {
            (None, _) => Ok(()),
            (Some(_), Ok(target)) => Err(is_link(path, &target.to_string_lossy())),
            (Some(text), Err(_)) => fits(path, text),
        }
    }

    fn missing(&self, path: &str) -> Refused {
        Refused::new(format!("there is no file {path}"))
    }

    /// What the model knows of a file, which must be as it knows it.
    fn known(&self, path: &str, now: &Content) -> Result<&Seen, Refused> {
        match self.seen.get(path) {
            None => Err(Refused::new(format!("{path} exists and was not read yet; read it first"))),
            Some(seen) if seen.hash != now.hash => {
                Err(Refused::new(format!("{path} has changed since it was read; read it again")))
            }
            Some(seen) => Ok(seen),
        }
    }

    fn content(&self, path: &str) -> Result<Option<Content>, Refused> {
        let fail = |error: std::io::Error| Refused(format!("{path}: {error}"));
        let opened = beneath::open(&self.root, path, OFlags::RDONLY | OFlags::NONBLOCK);
        let file = match opened {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::XDEV) => return Err(Refused::new(format!("{path} leads out of the worktree"))),
            Err(error) => return Err(fail(error.into())),
        };
        let facts = rustix::fs::fstat(&file).map_err(|error| fail(error.into()))?;
        match rustix::fs::FileType::from_raw_mode(facts.st_mode) {
            rustix::fs::FileType::RegularFile => {}
            rustix::fs::FileType::Directory => return Err(Refused::new(format!("{path} is a folder"))),
            _ => return Err(Refused::new(format!("{path} is no file"))),
        }
        if facts.st_size as u64 > FILE_BYTES_MAX {
            let most = FILE_BYTES_MAX >> 20;
            return Err(Refused::new(format!(
                "{path} is larger than {most} MiB; look at parts of it with `grep` or `bash`"
            )));
        }
        let mut bytes = Vec::new();
        (&file).take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(fail)?;
        let hash = blake3::hash(&bytes);
        let text = String::from_utf8(bytes).map_err(|_| Refused::new(format!("{path} is not UTF-8 text")))?;
        if text.contains('\0') {
            return Err(Refused::new(format!("{path} is not text")));
        }
        let marked = text.starts_with(BYTE_ORDER_MARK);
        let text = if marked { text[BYTE_ORDER_MARK.len()..].to_owned() } else { text };
        Ok(Some(Content { text, marked, mode: Mode::from_raw_mode(facts.st_mode & 0o7777), hash }))
    }

    /// Replaces a file as a whole, keeping its mode and its byte order mark.
    fn put(&mut self, path: &str, text: &str, before: Option<&Content>) -> Result<(), Refused> {
        self.put_as(path, text, before, None)
    }

    /// The same; a new file gets the mode of the one that was moved there.
    fn put_as(&mut self, path: &str, text: &str, before: Option<&Content>, moved: Option<Mode>) -> Result<(), Refused> {
        fits(path, text)?;
        let marked = before.is_some_and(|before| before.marked);
        let bytes = if marked { format!("{BYTE_ORDER_MARK}{text}").into_bytes() } else { text.as_bytes().to_vec() };
        let mode = before.map(|before| before.mode).or(moved).unwrap_or(Mode::from_raw_mode(0o644));
        let fail = |error: std::io::Error| Refused(format!("{path}: {error}"));
        let (folder, name) = self.folder(path, before.is_none())?;
        // Replacing a link by a file would part it from what it stands for.
        if let Ok(target) = rustix::fs::readlinkat(&folder, name, vec![]) {
            return Err(is_link(path, &target.to_string_lossy()));
        }
        // Not made of the file's own name, which may be as long as a name can be.
        let temporary = format!(".swarm-{}.tmp", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, &temporary, flags, mode).map_err(|error| fail(error.into()))?;
        let mut file = File::from(file);
        let written = mode::give(&file, mode).and_then(|()| file.write_all(&bytes)).and_then(|()| {
            // A file that came up meanwhile is not replaced by one that is new to the model.
            let flags = if before.is_none() { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
            Ok(rustix::fs::renameat_with(&folder, &temporary, &folder, name, flags)?)
        });
        if let Err(error) = written {
            let _ = rustix::fs::unlinkat(&folder, &temporary, rustix::fs::AtFlags::empty());
            return Err(fail(error));
        }
        let hash = blake3::hash(&bytes);
        let seen = match (before, self.seen.get(path)) {
            (Some(before), Some(seen)) => seen.changed(&before.text, text, hash),
            (Some(before), None) => Seen::none(before.hash).changed(&before.text, text, hash),
            (None, _) => Seen::whole(hash, lines(text).len()),
        };
        self.seen.insert(path.to_owned(), seen);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<(), Refused> {
        let (folder, name) = self.folder(path, false)?;
        rustix::fs::unlinkat(&folder, name, rustix::fs::AtFlags::empty())
            .map_err(|error| Refused(format!("{path}: {error}")))?;
        self.seen.remove(path);
        Ok(())
    }

    /// The folder that a file lies in, made where it is missing, and the file's own name.
    fn folder<'p>(&self, path: &'p str, make: bool) -> Result<(OwnedFd, &'p str), Refused> {
        let fail = |error: rustix::io::Errno| Refused(format!("{path}: {error}"));
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at = self.root.as_fd().try_clone_to_owned().map_err(|error| Refused(format!("{path}: {error}")))?;
        for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
            if make {
                match rustix::fs::mkdirat(&at, folder, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(fail(error)),
                }
            }
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            at = rustix::fs::openat(&at, folder, flags, Mode::empty()).map_err(|error| match error {
                rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => no_folder(path, folder),
                error => fail(error),
            })?;
        }
        Ok((at, name))
    }
}

/// A path below the worktree in its plain form; never into git's own folder. A whole path may begin with the worktree's.
///
/// # Errors
/// [`Refused`] for one that leads out of it.
pub fn plain(root: &Path, path: &str) -> Result<String, Refused> {
    let outside = || Refused::new(format!("{path}: paths are relative to the worktree and stay in it"));
    let written = Path::new(path.trim());
    let written = if written.is_absolute() { written.strip_prefix(root).map_err(|_| outside())? } else { written };
    let mut parts = vec![];
    for part in written.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    match parts.iter().position(|part| is_git_dir(part.as_bytes())) {
        None if parts.is_empty() => Err(Refused::new("no file is named")),
        None => Ok(parts.join("/")),
        Some(at) if parts[at].eq_ignore_ascii_case(".git") => {
            Err(Refused(format!("{} belongs to git; use `bash` with git", parts[..=at].join("/"))))
        }
        Some(at) => {
            Err(Refused(format!("{}: some system reads `{}` as .git; name it otherwise", parts.join("/"), parts[at])))
        }
    }
}

/// Whether a file may be made at a path: what no result may hold is refused here, where another name can still be found.
fn may_be_new(path: &str) -> Result<(), Refused> {
    let why = match path {
        _ if path.chars().any(char::is_control) => "a control character (a line feed, an escape …) in its name",
        _ if path.contains('\\') => "a backslash in its name, which is a path on Windows",
        _ if path.matches('/').count() > FOLDERS_MAX => "more than 128 folders above it",
        _ => return Ok(()),
    };
    Err(Refused(format!("{}: no new file may have {why}; name it otherwise", path.escape_debug())))
}

fn fits(path: &str, text: &str) -> Result<(), Refused> {
    match text.len() as u64 > FILE_BYTES_MAX {
        true => Err(Refused::new(format!("{path} would be larger than {} MiB", FILE_BYTES_MAX >> 20))),
        false => Ok(()),
    }
}

fn no_folder(path: &str, folder: &str) -> Refused {
    Refused(format!("{path}: `{folder}` is a link or no folder; name the file by the folder it lies in"))
}

fn is_link(path: &str, target: &str) -> Refused {
    Refused(format!("{path} is a link to {target}; change that file by its own name"))
}

fn unseen(path: &str, line: usize) -> Refused {
    Refused(format!("line {} of {path} was not shown yet; read it first", line + 1))
}

/// A unified diff, for the model and for people.
fn difference(path: &str, old: &str, new: &str) -> String {
    let diff = TextDiff::from_lines(old, new);
    let text = diff.unified_diff().context_radius(DIFF_CONTEXT).header(path, path).to_string();
    bounded(&text, TEXT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::agent::edit::Occurrences;

    fn worktree() -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path()).unwrap();
        (folder, files)
    }

    fn one<'a>(old: &'a str, new: &'a str) -> [Edit<'a>; 1] {
        [Edit { old, new, occurrences: Occurrences::One }]
    }

    #[test]
    fn what_was_not_read_or_changed_meanwhile_is_not_written() {
        let (folder, mut files) = worktree();
        let path = folder.path().join("a");
        std::fs::write(&path, "one\n").unwrap();
        assert!(files.edit("a", &one("one", "two")).unwrap_err().0.contains("read it first"));
        files.read("a", None, None).unwrap();
        std::fs::write(&path, "one!\n").unwrap();
        assert!(files.edit("a", &one("one", "two")).unwrap_err().0.contains("has changed"));
        files.read("a", None, None).unwrap();
        assert!(files.edit("a", &one("one", "two")).unwrap().contains("+two!"));
        assert!(files.edit("a", &one("two", "three")).is_ok(), "its own change is known");
    }

    #[test]
    fn only_lines_that_were_shown_are_changed() {
        let (folder, mut files) = worktree();
        let path = folder.path().join("a");
        std::fs::write(&path, "1\n2\n3\n4\n5\n").unwrap();
        files.read("a", Some(2), Some(2)).unwrap();
        assert!(files.edit("a", &one("5", "five")).unwrap_err().0.contains("line 5 of a was not shown"));
        assert!(files.write("a", "x\n").unwrap_err().0.contains("line 1 of a was not shown"));
        files.edit("a", &one("2\n", "two\nzwei\n")).unwrap();
        files.edit("a", &one("3\n", "three\n")).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\ntwo\nzwei\nthree\n4\n5\n");
    }

    #[test]
    fn a_link_is_never_replaced_by_a_file() {
        let (folder, mut files) = worktree();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        std::fs::write(folder.path().join("d/real"), "x\n").unwrap();
        symlink("d/real", folder.path().join("link")).unwrap();
        symlink("d", folder.path().join("e")).unwrap();
        for path in ["link", "e/real"] {
            files.read(path, None, None).unwrap();
            assert!(files.edit(path, &one("x", "y")).unwrap_err().0.contains("link"), "{path}");
        }
        assert!(folder.path().join("link").is_symlink());
        let whole = folder.path().join("d/real");
        files.read(whole.to_str().unwrap(), None, None).unwrap();
        assert!(files.edit("d/real", &one("x", "y")).is_ok(), "a whole path below the worktree is the same file");
    }

    #[test]
    fn a_patch_changes_what_it_quotes_and_nothing_stale() {
        let (folder, mut files) = worktree();
        let path = folder.path().join("a");
        std::fs::write(&path, "x\ny\n").unwrap();
        let patch = |body: &str| format!("*** Begin Patch\n{body}\n*** End Patch");
        assert!(files.patch(&patch("*** Delete File: a")).unwrap_err().0.contains("not read yet"));
        assert!(files.patch(&patch("*** Update File: a\n@@\n+z")).unwrap_err().0.contains("not read yet"));
        assert!(files.patch(&patch("*** Update File: a\n*** Move to: b")).unwrap_err().0.contains("not read yet"));
        files.patch(&patch("*** Update File: a\n-x\n+z")).unwrap();
        std::fs::write(&path, "z\nw\n").unwrap();
        assert!(files.patch(&patch("*** Update File: a\n-z\n+x")).unwrap_err().0.contains("has changed"));
    }

    #[test]
    fn a_moved_file_keeps_its_mode() {
        let (folder, mut files) = worktree();
        std::fs::write(folder.path().join("x"), "a\n").unwrap();
        std::fs::set_permissions(folder.path().join("x"), std::fs::Permissions::from_mode(0o755)).unwrap();
        files.patch("*** Begin Patch\n*** Update File: x\n*** Move to: b/y\n@@\n-a\n+b\n*** End Patch").unwrap();
        let moved = std::fs::metadata(folder.path().join("b/y")).unwrap();
        assert_eq!(moved.permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn mode_mark_and_line_ends_stay() {
        let (folder, mut files) = worktree();
        let path = folder.path().join("a");
        std::fs::write(&path, "\u{feff}x\r\ny\r\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        files.read("a", None, None).unwrap();
        files.write("a", "x\nz\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "\u{feff}x\r\nz\r\n");
        files.write("a", "\u{feff}x\nw\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "\u{feff}x\r\nw\r\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn nothing_leads_out_of_the_worktree_or_into_git() {
        let (folder, mut files) = worktree();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        symlink(outside.path(), folder.path().join("link")).unwrap();
        symlink(outside.path().join("secret"), folder.path().join("file")).unwrap();
        for path in ["../x", "/etc/passwd", "link/secret", "file", ".git/config", "sub/.GIT/hooks/x", ""] {
            assert!(files.read(path, None, None).is_err(), "read {path}");
            assert!(files.write(path, "x").is_err(), "write {path}");
        }
        assert!(files.write("link/new", "x").is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_found_before_anything_is() {
        let (folder, mut files) = worktree();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("file"), "x\n").unwrap();
        symlink("sub", folder.path().join("way")).unwrap();
        symlink("gone", folder.path().join("link")).unwrap();
        let large = format!("+{}\n", "y".repeat(FILE_BYTES_MAX as usize));
        let rows = [
            ("*** Add File: ./a\n+y\n", "names it twice"),
            ("*** Add File: b//c\n+y\n*** Add File: b/./c\n+y\n", "names it twice"),
            ("*** Add File: way/x\n+y\n", "`way` is a link or no folder"),
            ("*** Add File: file/x\n+y\n", "file/x: "),
            ("*** Add File: a/x\n+y\n", "`a` is a link or no folder"),
            ("*** Add File: n/a\n+y\n*** Add File: n/a/b\n+y\n", "`n/a` is a link or no folder"),
            ("*** Add File: n/GIT~1/b\n+y\n", "some system reads `GIT~1` as .git"),
            ("*** Add File: x\\y\n+y\n", "a backslash"),
            ("*** Add File: link\n+y\n", "link is a link to gone"),
            (&format!("*** Add File: z\n{large}"), "would be larger than"),
        ];
        for (rest, words) in rows {
            let patch = format!("*** Begin Patch\n*** Add File: a\n+x\n{rest}*** End Patch");
            let refused = files.patch(&patch).unwrap_err().0;
            assert!(refused.contains(words), "{words}: {}", &refused[..refused.len().min(200)]);
            assert!(!folder.path().join("a").exists() && !folder.path().join("n").exists(), "{words}");
        }
        files.patch("*** Begin Patch\n*** Add File: sub/new/x\n+x\n*** End Patch").unwrap();
    }

    #[test]
    fn what_no_result_may_hold_is_refused_at_once() {
        let (folder, mut files) = worktree();
        let deep = "d/".repeat(FOLDERS_MAX + 1) + "f";
        for (path, words) in [
            ("src/.git/config", "src/.git belongs to git"),
            ("git~1/config", "git~1/config: some system reads `git~1` as .git; name it otherwise"),
            ("a\nb", "a\\nb: no new file may have a control character"),
            ("a\\b", "a backslash in its name"),
            (&deep, "more than 128 folders above it"),
        ] {
            let refused = files.write(path, "x").unwrap_err().0;
            assert!(refused.contains(words), "{refused}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        std::fs::write(folder.path().join("a\nb"), "x\n").unwrap();
        files.read("a\nb", None, None).unwrap();
        files.edit("a\nb", &one("x", "y")).unwrap();
        files.write(&deep[2..], "x").unwrap();
    }

    #[test]
    fn a_patch_that_fails_in_its_midst_is_undone() {
        let (folder, mut files) = worktree();
        std::fs::write(folder.path().join("a"), "x\n").unwrap();
        let long = "z".repeat(300);
        let patch = format!(
            "*** Begin Patch\n*** Update File: a\n-x\n+y\n*** Add File: b\n+y\n*** Add File: {long}\n+y\n*** End Patch"
        );
        assert!(files.patch(&patch).is_err());
        assert_eq!(std::fs::read_to_string(folder.path().join("a")).unwrap(), "x\n");
        assert!(!folder.path().join("b").exists());
        files.patch("*** Begin Patch\n*** Update File: a\n-x\n+z\n*** End Patch").unwrap();
    }

    #[test]
    fn a_patch_happens_in_all_files_or_in_none() {
        let (folder, mut files) = worktree();
        std::fs::write(folder.path().join("a"), "x\n").unwrap();
        let patch = |b: &str| {
            format!(
                "*** Begin Patch\n*** Update File: a\n-x\n+y\n*** Add File: d/n\n+z\n*** Update File: b\n-{b}\n+q\n*** End Patch"
            )
        };
        assert!(files.patch(&patch("w")).is_err());
        assert_eq!(std::fs::read_to_string(folder.path().join("a")).unwrap(), "x\n");
        std::fs::write(folder.path().join("b"), "w\n").unwrap();
        files.patch(&patch("w")).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("d/n")).unwrap(), "z\n");
        assert_eq!(std::fs::read_to_string(folder.path().join("b")).unwrap(), "q\n");
    }

    #[test]
    fn long_files_are_read_in_parts() {
        let (folder, mut files) = worktree();
        let text: String = (1..=3000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(folder.path().join("a"), text).unwrap();
        let shown = files.read("a", None, None).unwrap();
        assert!(shown.ends_with("[2000 more lines; read on from line 1001]\n"));
        assert_eq!(files.read("a", Some(2999), Some(9)).unwrap(), "  2999\tline 2999\n  3000\tline 3000\n");
        assert!(files.read("a", Some(3001), None).is_err());
        std::fs::write(folder.path().join("b"), b"\x00\x01").unwrap();
        assert!(files.read("b", None, None).unwrap_err().0.contains("not text"));
    }
}
