//! The fold, judged by `git merge-tree` over random histories made of everything that merges badly: small alphabets of
//! paths and lines, renames of files and folders, files that become folders, links, modes, line ends.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use git2::{IndexEntry, IndexTime, ObjectType, Oid, Repository};
use proptest::prelude::*;

use super::fold::{ConflictKind, ConflictPath, FoldError, Folded, FoldedAll, Step, fold, fold_all, fold_by};
use super::rules::FileRules;
use super::text::Labels;
use super::touched::conflicted;
use crate::tree;

/// A version of everything: path → mode and content.
type Files = BTreeMap<String, (u32, String)>;

const FILE: u32 = 0o100_644;
const EXECUTABLE: u32 = 0o100_755;
const LINK: u32 = 0o120_000;
const GITLINK: u32 = 0o160_000;

/// What git says.
enum Verdict {
    Clean(Oid),
    Conflict,
    Crashed,
}

struct Fixture {
    folder: tempfile::TempDir,
    repo: Repository,
}

impl Fixture {
    fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let repo = Repository::init_bare(folder.path()).unwrap();
        Fixture { folder, repo }
    }

    /// Written through libgit2's index, so that the code under test does not make its own input.
    fn tree(&self, files: &Files) -> Oid {
        let mut index = git2::Index::new().unwrap();
        for (path, (mode, content)) in files {
            let time = IndexTime::new(0, 0);
            let id = self.repo.odb().unwrap().write(ObjectType::Blob, content.as_bytes()).unwrap();
            index
                .add(&IndexEntry {
                    ctime: time,
                    mtime: time,
                    dev: 0,
                    ino: 0,
                    mode: *mode,
                    uid: 0,
                    gid: 0,
                    file_size: 0,
                    id,
                    flags: 0,
                    flags_extended: 0,
                    path: path.clone().into_bytes(),
                })
                .unwrap();
        }
        index.write_tree_to(&self.repo).unwrap()
    }

    fn fold(&self, base: &Files, ours: &Files, theirs: &Files) -> Folded {
        fold(&self.repo, self.tree(base), self.tree(ours), self.tree(theirs)).unwrap()
    }

    fn git_merge(&self, base: &Files, ours: &Files, theirs: &Files) -> Verdict {
        let [base, ours, theirs] = [base, ours, theirs].map(|files| self.commit(files).to_string());
        let output = git(self.folder.path())
            .args(["-c", &format!("attr.tree={ours}")])
            .args(["merge-tree", "--write-tree", "--no-messages", &format!("--merge-base={base}"), &ours, &theirs])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        match output.status.code() {
            Some(0) => Verdict::Clean(text.trim().parse().unwrap()),
            Some(1) => Verdict::Conflict,
            // An assertion in git's process_renames fails for some moves of folders onto each other (2.47.3).
            None => Verdict::Crashed,
            Some(_) => panic!("git merge-tree: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    fn commit(&self, files: &Files) -> Oid {
        let tree = self.repo.find_tree(self.tree(files)).unwrap();
        let someone = git2::Signature::new("a", "a@b", &git2::Time::new(0, 0)).unwrap();
        self.repo.commit(None, &someone, &someone, "", &tree, &[]).unwrap()
    }
}

fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    command
}

/// Whether there is a git that can merge trees from a given base (2.40).
fn git_can_judge() -> bool {
    let judge = Command::new("git").args(["merge-tree", "-h"]).output();
    let able = judge.is_ok_and(|out| [out.stdout, out.stderr].concat().windows(10).any(|word| word == b"merge-base"));
    if !able {
        swarm_protocol::skipped::say("no git with `merge-tree --merge-base` on PATH");
    }
    able
}

/// Puts a file, and takes away what cannot stand beside it.
fn put(files: &mut Files, path: &str, file: (u32, String)) {
    files.retain(|other, _| !other.starts_with(&format!("{path}/")) && !path.starts_with(&format!("{other}/")));
    files.insert(path.to_owned(), file);
}

/// One act of one side.
#[derive(Debug, Clone)]
enum Act {
    Add(String, (u32, String)),
    Delete(usize),
    Move(usize, String),
    MoveFolder(usize, String),
    Line(usize, usize, Option<String>),
    Insert(usize, usize, String),
    Mode(usize),
    LineEnds(usize),
    CutLastLineFeed(usize),
}

fn act(files: &mut Files, act: &Act) {
    let nth = |files: &Files, at: usize| files.keys().nth(at % files.len().max(1)).cloned();
    let edit = |files: &mut Files, at: usize, change: &dyn Fn(&mut Vec<String>)| {
        if let Some((_, content)) = nth(files, at).and_then(|path| files.get_mut(&path)) {
            let mut lines: Vec<String> = content.split_inclusive('\n').map(str::to_owned).collect();
            change(&mut lines);
            *content = lines.concat();
        }
    };
    match act {
        Act::Add(path, file) => put(files, path, file.clone()),
        Act::Delete(at) => {
            nth(files, *at).and_then(|path| files.remove(&path));
        }
        Act::Move(at, to) => {
            if let Some(file) = nth(files, *at).and_then(|path| files.remove(&path)) {
                put(files, to, file);
            }
        }
        Act::MoveFolder(at, to) => {
            let Some(folder) = nth(files, *at).and_then(|path| path.rfind('/').map(|end| path[..=end].to_owned()))
            else {
                return;
            };
            let inside: Vec<String> = files.keys().filter(|path| path.starts_with(&folder)).cloned().collect();
            let moved: Vec<_> = inside.into_iter().map(|path| (path.clone(), files.remove(&path))).collect();
            for (path, file) in moved {
                put(files, &format!("{to}/{}", &path[folder.len()..]), file.expect("it was listed"));
            }
        }
        Act::Line(at, line, new) => edit(files, *at, &|lines| {
            let at = line % lines.len().max(1);
            if at < lines.len() {
                lines.splice(at..=at, new.clone());
            }
        }),
        Act::Insert(at, line, new) => edit(files, *at, &|lines| lines.insert(line % (lines.len() + 1), new.clone())),
        Act::Mode(at) => {
            if let Some((mode, _)) = nth(files, *at).and_then(|path| files.get_mut(&path)) {
                *mode = if *mode == FILE { EXECUTABLE } else { FILE };
            }
        }
        Act::LineEnds(at) => edit(files, *at, &|lines| {
            lines.iter_mut().for_each(|line| *line = line.replace('\n', "\r\n").replace("\r\r", "\r"));
        }),
        Act::CutLastLineFeed(at) => edit(files, *at, &|lines| {
            if let Some(last) = lines.last_mut() {
                *last = last.trim_end_matches('\n').to_owned();
            }
        }),
    }
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "a.x", "a-b"]), 1..4)
        .prop_map(|names| names.join("/"))
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => prop::sample::select(vec!["{\n", "}\n", "\n", "x\n"]).prop_map(str::to_owned),
        3 => (0..60).prop_map(|n| format!("line {n} of some length\n")),
    ]
}

fn content() -> impl Strategy<Value = String> {
    prop_oneof![
        // Documents that several files may share in part.
        5 => (0..3, 4..14usize).prop_map(|(document, lines)| {
            (0..lines).map(|line| format!("document {document}, sentence {line}\n")).collect()
        }),
        3 => prop::collection::vec(line(), 0..14).prop_map(|lines| lines.concat()),
        1 => Just("\0binary\n".to_owned()),
        1 => Just(String::new()),
    ]
}

fn file() -> impl Strategy<Value = (u32, String)> {
    prop_oneof![
        8 => content().prop_map(|content| (FILE, content)),
        1 => content().prop_map(|content| (EXECUTABLE, content)),
        1 => prop::sample::select(vec!["a", "b/c"]).prop_map(|target| (LINK, target.to_owned())),
        1 => prop::sample::select(vec!["one", "two"]).prop_map(|commit| (GITLINK, commit.to_owned())),
    ]
}

fn any_act() -> impl Strategy<Value = Act> {
    let at = 0..8usize;
    let lines = 0..14usize;
    prop_oneof![
        3 => (path(), file()).prop_map(|(path, file)| Act::Add(path, file)),
        2 => at.clone().prop_map(Act::Delete),
        2 => (at.clone(), path()).prop_map(|(at, to)| Act::Move(at, to)),
        1 => (at.clone(), path()).prop_map(|(at, to)| Act::MoveFolder(at, to)),
        4 => (at.clone(), lines.clone(), prop::option::of(line())).prop_map(|(at, line, new)| Act::Line(at, line, new)),
        3 => (at.clone(), lines, line()).prop_map(|(at, line, new)| Act::Insert(at, line, new)),
        1 => at.clone().prop_map(Act::Mode),
        1 => at.clone().prop_map(Act::LineEnds),
        1 => at.prop_map(Act::CutLastLineFeed),
    ]
}

fn base() -> impl Strategy<Value = Files> {
    prop::collection::vec((path(), file()), 1..8).prop_map(|all| {
        let mut files = Files::new();
        all.into_iter().for_each(|(path, file)| put(&mut files, &path, file));
        files
    })
}

fn after(base: &Files, acts: &[Act]) -> Files {
    let mut files = base.clone();
    acts.iter().for_each(|one| act(&mut files, one));
    files
}

/// How often the two agreed.
#[derive(Default, Debug)]
struct Tally {
    same_tree: Cell<u32>,
    both_conflict: Cell<u32>,
    conflict_where_git_is_clean: Cell<u32>,
    git_crashed: Cell<u32>,
}

impl Tally {
    /// Fails where the fold is clean and git is not, or is clean with another tree.
    fn judge(&self, fixture: &Fixture, [base, ours, theirs]: [&Files; 3]) -> Result<(), TestCaseError> {
        let count = match (fixture.fold(base, ours, theirs), fixture.git_merge(base, ours, theirs)) {
            (_, Verdict::Crashed) => &self.git_crashed,
            (Folded::Clean { tree }, Verdict::Clean(gits)) => {
                prop_assert_eq!(tree, gits, "{:#?}\n{:#?}\n{:#?}", base, ours, theirs);
                &self.same_tree
            }
            (Folded::Clean { .. }, Verdict::Conflict) => {
                prop_assert!(false, "clean where git conflicts: {:#?}\n{:#?}\n{:#?}", base, ours, theirs);
                unreachable!("the assertion above fails")
            }
            (Folded::Conflict { paths }, verdict) => {
                prop_assert!(!paths.is_empty());
                match verdict {
                    Verdict::Clean(_) => &self.conflict_where_git_is_clean,
                    _ => &self.both_conflict,
                }
            }
        };
        count.set(count.get() + 1);
        Ok(())
    }
}

/// Runs many cases; `PROPTEST_CASES` asks for more.
fn judged<S: Strategy>(cases: u32, strategy: S, versions: impl Fn(S::Value) -> [Files; 3]) {
    if !git_can_judge() {
        return;
    }
    let mut config = ProptestConfig { failure_persistence: None, max_shrink_iters: 2_000, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    let (fixture, tally) = (Fixture::new(), Tally::default());
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&strategy, |value| {
        let [base, ours, theirs] = versions(value);
        tally.judge(&fixture, [&base, &ours, &theirs])
    });
    eprintln!("{tally:?}");
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn what_a_tree_says_is_merged_as_a_whole_is_so_by_git_and_by_the_fold() {
    let fixture = Fixture::new();
    let check = |attributes: &[(&str, &str)], path: &str, is_clean: bool| {
        let lines = |at: usize| (0..20).map(move |line| if line == at { "new\n".into() } else { format!("{line}\n") });
        let [base, ours, theirs] = [99, 2, 16].map(|at| {
            let mut files: Files =
                attributes.iter().map(|(path, text)| ((*path).to_owned(), (FILE, (*text).to_owned()))).collect();
            files.insert(path.to_owned(), (FILE, lines(at).collect()));
            files
        });
        let found = fixture.fold(&base, &ours, &theirs);
        assert_eq!(matches!(found, Folded::Clean { .. }), is_clean, "{attributes:?} {path}: {found:?}");
        let by_git = fixture.git_merge(&base, &ours, &theirs);
        assert_eq!(matches!(by_git, Verdict::Clean(_)), is_clean, "git: {attributes:?} {path}");
    };
    let top = ".gitattributes";
    check(&[(top, "f -merge\n")], "f", false);
    check(&[(top, "*.lock binary\n")], "a/b.lock", false);
    check(&[(top, "*.lock binary\n"), ("a/.gitattributes", "*.lock merge\n")], "a/b.lock", true);
    check(&[("a/.gitattributes", "/b/f -merge\n")], "a/b/f", false);
    check(&[("a/.gitattributes", "/f -merge\n")], "a/b/f", true);
    check(&[(top, "[attr]kept -merge\n"), ("a/.gitattributes", "f kept\n")], "a/f", false);
    // What of a macro was settled before is not heard again, and a macro in itself says nothing more.
    check(&[(top, "* binary\nf -binary\n")], "f", true);
    check(&[(top, "* binary\nf !binary\n")], "f", true);
    check(&[(top, "* binary\n"), ("a/.gitattributes", "f -binary\n")], "a/f", true);
    check(&[(top, "f -binary\n* binary\n")], "f", false);
    check(&[(top, "[attr]m m\nf m\n")], "f", true);
    check(&[(top, "[attr]m n -merge\n[attr]n m\nf n\n")], "f", false);
    check(&[(top, "[attr]m -merge\nf merge m\n")], "f", false);
    check(&[(top, "[attr]m -merge\nf m merge\n")], "f", true);
    check(&[(top, "[attr]m -merge\n[attr]m text\nf m\n")], "f", true);
    check(&[(top, "* -text -diff\n")], "f", true);
    check(&[(top, "g -merge\n")], "f", true);
}

#[test]
fn what_a_tree_says_is_joined_is_so_by_git_and_by_the_fold() {
    let attributes = "* merge=union\n";
    let check = |base: Option<&str>, ours: &str, theirs: &str, path: &str, want: Result<&str, ConflictKind>| {
        let of = |text: Option<&str>| {
            let mut files = files(&[(".gitattributes", attributes)]);
            files.extend(text.map(|text| (path.to_owned(), (FILE, text.to_owned()))));
            files
        };
        let (fixture, [base, ours, theirs]) = (Fixture::new(), [base, Some(ours), Some(theirs)].map(of));
        let found = fixture.fold(&base, &ours, &theirs);
        let want = match want {
            Ok(joined) => Folded::Clean { tree: fixture.tree(&of(Some(joined))) },
            Err(kind) => {
                Folded::Conflict { paths: vec![ConflictPath { path: path.as_bytes().to_vec(), kind, moved_to: None }] }
            }
        };
        assert_eq!(found, want, "{ours:?} {theirs:?}");
        match (fixture.git_merge(&base, &ours, &theirs), want) {
            (Verdict::Clean(gits), Folded::Clean { tree }) => assert_eq!(gits, tree),
            (Verdict::Conflict, Folded::Conflict { .. }) => {}
            _ => panic!("git says something else of {ours:?} {theirs:?}"),
        }
    };
    check(Some("# log\n"), "# log\na\n", "# log\nb\n", "log", Ok("# log\na\nb\n"));
    check(Some("# log\n"), "# log\na", "# log\nb", "log", Ok("# log\na\nb"));
    check(None, "# log\na\n", "# log\nb\n", "a/log", Ok("# log\na\nb\n"));
    // What both have between two places in dispute stands twice.
    check(Some("1\n2\n3\n"), "a\nsame\nb\n", "c\nsame\nd\n", "f", Ok("a\nsame\nb\nc\nsame\nd\n"));
    check(Some("\0a"), "\0b", "\0c", "f", Err(ConflictKind::Binary));
}

/// Lines behind edits: where, how many lines go, and what comes.
fn edited_lines(base: &[&'static str], edits: &[(usize, usize, Vec<&'static str>)]) -> String {
    let mut lines = base.to_vec();
    for (at, taken, new) in edits {
        let at = at % (lines.len() + 1);
        let end = (at + taken).min(lines.len());
        lines.splice(at..end, new.iter().copied());
    }
    lines.concat()
}

#[test]
fn lines_that_are_joined_are_joined_as_gits() {
    let letter = || prop::sample::select(vec!["{\n", "}\n", "\n", "a\n", "b\n", "unique\n", "c\r\n", "no end"]);
    let edit = move || (0..24usize, 0..4usize, prop::collection::vec(letter(), 0..4));
    let side = move || prop::collection::vec(edit(), 1..5);
    judged(600, (prop::collection::vec(letter(), 0..24), side(), side()), |(base, ours, theirs)| {
        let edited = |edits: &[(usize, usize, Vec<&'static str>)]| {
            files(&[(".gitattributes", "f merge=union\n"), ("f", &edited_lines(&base, edits))])
        };
        [edited(&[]), edited(&ours), edited(&theirs)]
    });
}

#[test]
fn a_fold_is_gits_tree_or_a_conflict() {
    let side = || prop::collection::vec(any_act(), 0..4);
    judged(600, (base(), side(), side()), |(base, ours, theirs)| {
        let (ours, theirs) = (after(&base, &ours), after(&base, &theirs));
        [base, ours, theirs]
    });
}

#[test]
fn ambiguous_lines_merge_as_gits_do_or_conflict() {
    let letter = || prop::sample::select(vec!["{\n", "}\n", "\n", "a\n", "b\n", "unique\n"]);
    let edit = move || (0..24usize, 0..3usize, prop::collection::vec(letter(), 0..3));
    let side = move || prop::collection::vec(edit(), 1..4);
    judged(400, (prop::collection::vec(letter(), 6..24), side(), side()), |(base, ours, theirs)| {
        let edited = |edits: &[(usize, usize, Vec<&'static str>)]| files(&[("f", &edited_lines(&base, edits))]);
        [edited(&[]), edited(&ours), edited(&theirs)]
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn disjoint_changes_commute(base in base(), one in prop::collection::vec(any_act(), 1..4), two in prop::collection::vec(any_act(), 1..4)) {
        let fixture = Fixture::new();
        // Each side acts in a folder of its own.
        let within = |folder: &str, files: &Files| -> Files {
            files.iter().map(|(path, file)| (format!("{folder}/{path}"), file.clone())).collect()
        };
        let both = |left: &Files, right: &Files| within("left", left).into_iter().chain(within("right", right)).collect::<Files>();
        let (left, right) = (after(&base, &one), after(&base, &two));
        let [start, one, two] = [both(&base, &base), both(&left, &base), both(&base, &right)].map(|files| fixture.tree(&files));
        let want = Folded::Clean { tree: fixture.tree(&both(&left, &right)) };
        prop_assert_eq!(fold(&fixture.repo, start, one, two).unwrap(), want.clone());
        prop_assert_eq!(fold(&fixture.repo, start, two, one).unwrap(), want);
    }
}

/// Files from `path=content` pairs.
fn files(all: &[(&str, &str)]) -> Files {
    all.iter().map(|(path, content)| ((*path).to_owned(), (FILE, (*content).to_owned()))).collect()
}

/// Folds and compares with the merged files, or with the conflicts; also with git's word where there is one.
fn check(base: &Files, ours: &Files, theirs: &Files, want: Result<&Files, &[(&str, ConflictKind)]>) {
    let fixture = Fixture::new();
    for (ours, theirs) in [(ours, theirs), (theirs, ours)] {
        match (fixture.fold(base, ours, theirs), want) {
            (Folded::Clean { tree }, Ok(want)) => assert_eq!(tree, fixture.tree(want)),
            (Folded::Conflict { paths }, Err(want)) => {
                let got: Vec<_> = paths.iter().map(|at| (std::str::from_utf8(&at.path).unwrap(), at.kind)).collect();
                assert_eq!(got, want);
            }
            (got, want) => panic!("{got:?} instead of {want:?}"),
        }
    }
}

/// Ten lines, with line `n` (from 1) replaced.
fn ten(n: usize, with: &str) -> String {
    (1..=10).map(|at| if at == n { format!("{with}\n") } else { format!("this is line {at}\n") }).collect()
}

#[test]
fn distant_edits_of_one_file_merge() {
    let merged = ten(1, "one").replace("this is line 9\n", "nine\n");
    let of = |content: &str| files(&[("a/b/f", content), ("g", "g")]);
    check(&of(&ten(0, "")), &of(&ten(1, "one")), &of(&ten(9, "nine")), Ok(&of(&merged)));
}

#[test]
fn neighbouring_edits_of_one_file_conflict() {
    let of = |content: &str| files(&[("f", content)]);
    check(&of(&ten(0, "")), &of(&ten(4, "x")), &of(&ten(5, "y")), Err(&[("f", ConflictKind::Content)]));
}

#[test]
fn one_side_edits_what_the_other_makes_executable() {
    let of = |mode, content: &str| Files::from([("f".to_owned(), (mode, content.to_owned()))]);
    check(&of(FILE, "a\n"), &of(EXECUTABLE, "a\n"), &of(FILE, "b\n"), Ok(&of(EXECUTABLE, "b\n")));
}

#[test]
fn both_fill_one_new_folder() {
    let base = files(&[("f", "f")]);
    let [ours, theirs] = [files(&[("f", "f"), ("new/a", "1")]), files(&[("f", "f"), ("new/b", "2")])];
    check(&base, &ours, &theirs, Ok(&files(&[("f", "f"), ("new/a", "1"), ("new/b", "2")])));
}

#[test]
fn everything_may_be_deleted() {
    let base = files(&[("a/b", "1"), ("c", "2")]);
    check(&base, &files(&[("c", "2")]), &files(&[("a/b", "1")]), Ok(&Files::new()));
}

#[test]
fn an_edit_follows_a_moved_file() {
    let base = files(&[("old", &ten(0, "")), ("k", "k")]);
    let moved = files(&[("new/place", &ten(1, "one")), ("k", "k")]);
    let edited = files(&[("old", &ten(9, "nine")), ("k", "k")]);
    let merged = ten(1, "one").replace("this is line 9\n", "nine\n");
    check(&base, &moved, &edited, Ok(&files(&[("new/place", &merged), ("k", "k")])));
}

#[test]
fn a_deleted_file_that_the_other_edits_conflicts() {
    let base = files(&[("f", &ten(0, "")), ("k", "k")]);
    check(
        &base,
        &files(&[("k", "k")]),
        &files(&[("f", &ten(1, "x")), ("k", "k")]),
        Err(&[("f", ConflictKind::ModifyDelete)]),
    );
}

#[test]
fn a_file_added_to_a_moved_folder_conflicts() {
    let base = files(&[("d/a", &ten(0, "")), ("d/b", &ten(1, "b"))]);
    let moved = files(&[("e/a", &ten(0, "")), ("e/b", &ten(1, "b"))]);
    let mut added = base.clone();
    added.insert("d/new".to_owned(), (FILE, "new\n".to_owned()));
    check(&base, &moved, &added, Err(&[("d/new", ConflictKind::FolderRename)]));
}

#[test]
fn two_moves_of_one_file_conflict() {
    let [base, one, two] = ["f", "g", "h"].map(|path| files(&[(path, &ten(0, ""))]));
    check(&base, &one, &two, Err(&[("f", ConflictKind::RenameDelete)]));
    check(&base, &one, &one, Ok(&one));
}

#[test]
fn a_folder_where_the_other_adds_a_file_conflicts() {
    let base = files(&[("k", "k")]);
    let [file, folder] = [files(&[("k", "k"), ("x", "1\n")]), files(&[("k", "k"), ("x/y", "2\n")])];
    check(&base, &file, &folder, Err(&[("x", ConflictKind::FolderFile)]));
}

#[test]
fn two_changes_of_a_link_or_a_submodule_or_a_binary_file_conflict() {
    let one = |mode, target: &str| Files::from([("l".to_owned(), (mode, target.to_owned()))]);
    for (mode, kind) in [(LINK, ConflictKind::Symlink), (GITLINK, ConflictKind::Gitlink)] {
        check(&one(mode, "a"), &one(mode, "b"), &one(mode, "c"), Err(&[("l", kind)]));
        check(&one(mode, "a"), &one(mode, "b"), &one(mode, "a"), Ok(&one(mode, "b")));
    }
    let [base, ours, theirs] = ["\0a", "\0b", "\0c"].map(|content| files(&[("f", content)]));
    check(&base, &ours, &theirs, Err(&[("f", ConflictKind::Binary)]));
}

#[test]
fn a_link_to_nothing_is_not_followed_to_where_another_one_is() {
    let one = |path: &str, target: &str| Files::from([(path.to_owned(), (LINK, target.to_owned()))]);
    let conflict = Err(&[("l", ConflictKind::ModifyDelete)][..]);
    check(&one("l", ""), &one("m", ""), &one("l", "x"), conflict);
    check(&one("l", "a"), &one("m", "a"), &one("l", "x"), Ok(&one("m", "x")));
}

#[test]
fn several_needs_give_one_base_and_the_first_misfit_is_named() {
    let fixture = Fixture::new();
    let tree = |all: &[(&str, &str)]| fixture.tree(&files(all));
    let base = tree(&[("f", "0\n")]);
    let step = |result| Step { base, result, writes: None };
    let adds = [tree(&[("f", "0\n"), ("a", "1\n")]), tree(&[("f", "0\n"), ("b", "2\n")])];
    let both = tree(&[("f", "0\n"), ("a", "1\n"), ("b", "2\n")]);
    assert_eq!(
        fold_all(&fixture.repo, &FileRules::default(), base, &adds.map(step)).unwrap(),
        FoldedAll::Clean { tree: both, again: vec![] }
    );
    let steps = [step(adds[0]), step(tree(&[("f", "x\n")])), step(tree(&[("f", "y\n")]))];
    match fold_all(&fixture.repo, &FileRules::default(), base, &steps).unwrap() {
        FoldedAll::Conflict { at: 2, paths } => assert_eq!(paths[0].path, b"f"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_blob_that_was_never_fetched_is_named() {
    let fixture = Fixture::new();
    let [base, ours] = [ten(0, ""), ten(1, "one")].map(|content| fixture.tree(&files(&[("f", &content)])));
    let absent = Oid::hash_object(ObjectType::Blob, b"never written").unwrap();
    let odb = fixture.repo.odb().unwrap();
    let entry = tree::Entry { mode: FILE, id: absent };
    let theirs = tree::write(&odb, vec![(b"f".to_vec(), entry)]).unwrap();
    // Where only one side changed it, nobody needs its content.
    assert_eq!(fold(&fixture.repo, base, base, theirs).unwrap(), Folded::Clean { tree: theirs });
    assert!(matches!(fold(&fixture.repo, base, ours, theirs), Err(FoldError::Missing { id }) if id == absent));
}

/// A file of ten lines at `path`, with line `n` replaced where one is given.
fn moved(path: &str, n: usize) -> Files {
    files(&[(path, &ten(n, "changed"))])
}

#[test]
fn an_edit_follows_a_move_only_to_where_it_may_write() {
    let fixture = Fixture::new();
    let [base, edited, away] = [moved("lib/x", 0), moved("lib/x", 3), moved("app/x", 0)].map(|it| fixture.tree(&it));
    let (both, git) = (fixture.tree(&moved("app/x", 3)), &fixture.repo);
    let fold = |tip, result, writes: Option<&[String]>| {
        fold_by(git, &FileRules::default(), tip, &Step { base, result, writes }).unwrap().folded
    };
    let (narrow, wide) = (["lib/**".to_owned()], ["lib/**".to_owned(), "app/*".to_owned()]);
    for writes in [None, Some(&wide[..])] {
        assert_eq!(fold(away, edited, writes), Folded::Clean { tree: both });
    }
    let kind = ConflictKind::MovedOutOfScope;
    let paths = vec![ConflictPath { path: b"lib/x".to_vec(), kind, moved_to: Some(b"app/x".to_vec()) }];
    assert_eq!(fold(away, edited, Some(&narrow)), Folded::Conflict { paths: paths.clone() });
    assert_eq!(fold(away, edited, Some(&["[".to_owned()])), Folded::Conflict { paths: paths.clone() });
    // Who moves it may write both places, whatever landed there before.
    assert_eq!(fold(edited, away, Some(&wide)), Folded::Clean { tree: both });
    let steps = [Step { base, result: away, writes: None }, Step { base, result: edited, writes: Some(&narrow) }];
    let joined = fold_all(git, &FileRules::default(), base, &steps).unwrap();
    assert_eq!(joined, FoldedAll::Conflict { at: 1, paths });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_change_takes_effect_within_its_scope_only(base in base(), ours in prop::collection::vec(any_act(), 1..5), theirs in prop::collection::vec(any_act(), 1..4)) {
        let fixture = Fixture::new();
        let [start, tip, result] = [base.clone(), after(&base, &ours), after(&base, &theirs)].map(|it| fixture.tree(&it));
        let odb = fixture.repo.odb().unwrap();
        let touched = |from, to| tree::diff(&odb, Some(from), Some(to)).unwrap().into_iter().map(|one| one.path);
        let globs: Vec<String> = touched(start, result).map(|path| String::from_utf8(path).unwrap()).collect();
        let step = Step { base: start, result, writes: Some(&globs) };
        let outcome = fold_by(&fixture.repo, &FileRules::default(), tip, &step).unwrap();
        if let Folded::Clean { tree } = outcome.folded {
            for path in touched(tip, tree) {
                prop_assert!(globs.iter().any(|glob| glob.as_bytes() == path), "{} of {globs:?}", path.escape_ascii());
            }
            // Whoever may write anything gets the same.
            prop_assert_eq!(fold(&fixture.repo, start, tip, result).unwrap(), Folded::Clean { tree });
        }
    }

    #[test]
    fn every_conflict_is_a_tree_to_work_on(base in base(), ours in prop::collection::vec(any_act(), 1..5), theirs in prop::collection::vec(any_act(), 1..5)) {
        let fixture = Fixture::new();
        let [start, tip, result] = [base.clone(), after(&base, &ours), after(&base, &theirs)].map(|it| fixture.tree(&it));
        let odb = fixture.repo.odb().unwrap();
        let step = Step { base: start, result, writes: None };
        let labels = Labels { base: "before both".to_owned(), ours: "landed".to_owned(), theirs: "b".to_owned() };
        let opened = conflicted(&odb, &FileRules::default(), (tip, &step), &labels).unwrap();
        let merged = fold(&fixture.repo, start, tip, result).unwrap();
        prop_assert_eq!(opened.places.is_empty(), merged == Folded::Clean { tree: opened.tree });
        let find = |tree, path: &[u8]| tree::find(&odb, tree, path).unwrap();
        for place in &opened.places {
            let is_folder = find(opened.tree, &place.at.path).unwrap().is_tree();
            prop_assert_eq!(is_folder, place.beside.is_some());
            let Some(beside) = &place.beside else { continue };
            prop_assert!(!find(opened.tree, beside).unwrap().is_tree());
            prop_assert!([tip, result].iter().all(|side| find(*side, beside).is_none()));
        }
    }
}
