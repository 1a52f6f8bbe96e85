//! What programs need of the installation that they lie in. `PREFIX/bin/tool` opens `PREFIX/share/tool`, runs `PREFIX/libexec/tool/part`
//! and, in a kind of installation that has more, `PREFIX/Cellar`, `PREFIX/jars` or `PREFIX/arm-none-eabi/bin/as`.
//!
//! Nobody wrote any of these down, so a part is shown by its name alone, and only names by which installers call what they
//! install: never a prefix as a whole. Three judgements narrow it. A prefix that is or may be somebody's home, that many share or in which a
//! tool keeps credentials has no parts but `lib`, which it has on `PATH` only. So has one inside a repository of the caller's home: that
//! is a project, and what it calls `share` is anything. Folders of settings are looked through, file by file, and those that name
//! a password are hidden.
//!
//! It looks at names and at what marks a kind, a folder at a time, and decides nothing about what lies deeper: that is
//! [`super::unnamed`]'s.

use std::path::{Path, PathBuf};

use super::SYSTEM;
use super::paths::{CREDENTIALS, SHARED};
use super::showcase::TOOL_CREDENTIALS;
use super::unnamed::Look;

/// A kind of installation: what marks it in the prefix (with a slash at the end a folder, else a file), what it has beside its
/// programs (a `*` at the end stands for the rest of a name), and where its settings lie, which may hold passwords.
struct Kind {
    mark: &'static str,
    parts: &'static [&'static str],
    settings: &'static [&'static str],
}

/// All kinds; a prefix may be of several. The first is everything that has programs.
const KINDS: &[Kind] = &[
    Kind {
        mark: "bin/",
        parts: &["lib", "lib32", "lib64", "libx32", "libexec", "share", "include", "plugins", "boot", "sysroot"],
        settings: &[],
    },
    // A Java: what it is configured by came with it; a file of passwords is hidden by its name.
    Kind { mark: "release", parts: &["release", "conf", "jmods", "jre", "legal"], settings: &[] },
    // The sources that a Go compiles.
    Kind { mark: "pkg/tool/", parts: &["VERSION", "go.env", "pkg", "src", "misc"], settings: &[] },
    // Homebrew: `bin` and `opt` are links into the Cellar.
    Kind {
        mark: "Cellar/",
        parts: &[
            "Cellar",
            "opt",
            "Homebrew/Library/Homebrew",
            "etc/ca-certificates",
            "etc/openssl@3",
            "etc/openssl@1.1",
            "etc/fonts",
        ],
        settings: &[],
    },
    Kind { mark: "conda-meta/", parts: &["ssl", "etc/fonts"], settings: &[] },
    // Spark, Kafka, Hadoop, Maven, sbt.
    Kind { mark: "jars/", parts: &["jars", "python", "R"], settings: &[] },
    Kind { mark: "RELEASE", parts: &["RELEASE"], settings: &["conf"] },
    Kind { mark: "config/server.properties", parts: &["libs"], settings: &["config"] },
    Kind { mark: "share/hadoop/", parts: &[], settings: &["etc/hadoop"] },
    Kind { mark: "conf/settings.xml", parts: &[], settings: &["conf"] },
    Kind { mark: "conf/sbtopts", parts: &[], settings: &["conf"] },
    // An Erlang in its own folder.
    Kind { mark: "releases/", parts: &["erts-*", "releases"], settings: &[] },
    Kind { mark: "texmf-dist/", parts: &["texmf-dist", "texmf-var", "texmf.cnf", "tlpkg"], settings: &[] },
    Kind { mark: "mkspecs/", parts: &["mkspecs", "qml", "modules", "metatypes", "translations"], settings: &[] },
    Kind { mark: "nvvm/", parts: &["nvvm", "targets", "nvml"], settings: &[] },
];

/// Folders of a home in which all programs keep what is theirs.
const OF_ALL_PROGRAMS: [&str; 5] = [".local", ".config", ".cache", ".local/share", ".local/state"];

/// What the tools of a cross compiler are called behind the name of their target, which is the name of the target's folder.
const OF_A_TARGET: [&str; 4] = ["-gcc", "-ld", "-as", "-cc"];

/// Entries of one folder that are looked at.
const ENTRIES_MAX: usize = 10_000;

/// A part of an installation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// The place at which programs look for it.
    pub at: PathBuf,
    /// What lies there; canonical.
    pub path: PathBuf,
    /// How closely it is looked at before it is shown.
    pub look: Look,
}

/// How programs came to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Their folder is on the caller's `PATH`.
    Folder,
    /// A link there leads to one of them, and shows what else it may run, too.
    Link,
}

/// What is shown beside the programs in a folder, as `PATH` or a link names it.
pub fn parts(programs: &Path, way: Way, home: &Path) -> Vec<Part> {
    let Some(prefix) = prefix_of(programs) else { return Vec::new() };
    let Ok(real) = prefix.canonicalize() else { return Vec::new() };
    if real.parent().is_none() || home.starts_with(&real) {
        return Vec::new();
    }
    let is_closed =
        may_hold_secrets(&real, home) || is_project(&real, home) && (way == Way::Link || real.starts_with(home));
    let wanted: Vec<(PathBuf, Look)> = match (is_closed, way) {
        (true, Way::Link) => return Vec::new(),
        (true, Way::Folder) => vec![("lib".into(), Look::Software)],
        (false, _) => wanted(&real, way),
    };
    let found = wanted.iter().filter_map(|(name, look)| Some((name, real.join(name).canonicalize().ok()?, *look)));
    let found: Vec<_> = found.collect();
    // A link (`lib64`) shows what it leads to, as long as that is shown anyway.
    let own = |path: &Path| {
        SYSTEM.iter().any(|system| path.starts_with(system))
            || found.iter().any(|(name, shown, _)| real.join(name) == *shown && path.starts_with(shown))
    };
    let own = found.iter().filter(|(_, path, _)| own(path));
    own.map(|(name, path, look)| Part { at: prefix.join(name), path: path.clone(), look: *look }).collect()
}

/// The `node_modules` that a program lies in, topmost: what it loads lies beside it.
pub fn modules_of(program: &Path, home: &Path) -> Option<Part> {
    let modules = program.ancestors().filter(|folder| folder.ends_with("node_modules")).last()?;
    let above = modules.parent()?;
    // In a home folder itself somebody installed it for all that they do.
    let is_closed = above != home && (may_hold_secrets(above, home) || is_project(above, home));
    (!is_closed).then(|| Part { at: modules.to_owned(), path: modules.to_owned(), look: Look::Software })
}

/// Whether more of a folder than its programs may not be shown: many owners share it, it is or lies in the home of somebody, who
/// need not be the caller (`sudo` keeps a `PATH`), all programs of a home keep something there, or a tool that lives there its credentials.
/// What lies deeper in the caller's own home is judged by itself.
pub fn may_hold_secrets(prefix: &Path, home: &Path) -> bool {
    let exists = |path: PathBuf| path.symlink_metadata().is_ok();
    let is_home = |folder: &Path| CREDENTIALS.iter().any(|name| exists(folder.join(name)));
    SHARED.iter().any(|shared| prefix == Path::new(shared))
        || prefix.parent() == Some(Path::new("/home"))
        || home.starts_with(prefix)
        || OF_ALL_PROGRAMS.iter().any(|name| prefix == home.join(name))
        || prefix.ancestors().take_while(|folder| *folder != home && folder.parent().is_some()).any(is_home)
        || TOOL_CREDENTIALS.iter().any(|name| exists(prefix.join(name)))
}

/// Whether a folder is or lies in somebody's repository.
fn is_project(folder: &Path, home: &Path) -> bool {
    project_of(folder, home).is_some()
}

/// The root of the repository that a folder is or lies in. What is kept of the whole home in one makes no project of all that is in it.
pub fn project_of<'a>(folder: &'a Path, home: &Path) -> Option<&'a Path> {
    let mut above = folder.ancestors().take_while(|above| *above != home);
    above.find(|above| above.join(".git").symlink_metadata().is_ok())
}

/// The folder that an installation lies in, from that of its programs.
fn prefix_of(programs: &Path) -> Option<&Path> {
    let is_of_programs = |folder: &Path| folder.ends_with("bin") || folder.ends_with("sbin");
    let above = programs.parent()?;
    match is_of_programs(programs) {
        true => Some(above),
        // `bin/x86_64-linux`
        false => is_of_programs(above).then(|| above.parent()).flatten(),
    }
}

/// What a prefix may have of parts, by the kinds that it is of.
fn wanted(prefix: &Path, way: Way) -> Vec<(PathBuf, Look)> {
    let is_marked = |mark: &str| match mark.strip_suffix('/') {
        Some(folder) => prefix.join(folder).is_dir(),
        None => prefix.join(mark).is_file(),
    };
    let names = names_in(prefix);
    let expand = |name: &'static str| match name.strip_suffix('*') {
        Some(start) => names.iter().filter(|name| name.starts_with(start)).map(PathBuf::from).collect(),
        None => vec![PathBuf::from(name)],
    };
    let mut all: Vec<(PathBuf, Look)> = Vec::new();
    for kind in KINDS.iter().filter(|kind| is_marked(kind.mark)) {
        all.extend(kind.parts.iter().flat_map(|part| expand(part)).map(|part| (part, Look::Software)));
        all.extend(kind.settings.iter().map(|part| (PathBuf::from(part), Look::Settings)));
    }
    let tools = names_in(&prefix.join("bin"));
    let targets = tools.iter().filter_map(|tool| OF_A_TARGET.iter().find_map(|end| tool.strip_suffix(end)));
    all.extend(targets.filter(|target| names.iter().any(|name| name == target)).map(|of| (of.into(), Look::Software)));
    if way == Way::Link {
        all.push(("bin".into(), Look::Folder));
    }
    all.sort();
    // What is both is looked at as what may hold more.
    all.dedup_by(|later, earlier| later.0 == earlier.0);
    all
}

/// The names in a folder, as far as they are text.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().into_iter().flatten().flatten().take(ENTRIES_MAX);
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// What is shown of the prefix `home/PREFIX` with these entries (a slash at the end of a folder's name, `a -> b` for a link), by
    /// a folder on `PATH` and by a link: a `*` behind what is looked through file by file.
    fn check(prefix: &str, entries: &[&str], on_path: &str, by_link: &str) {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().canonicalize().expect("it is there");
        let home = root.join("home");
        std::fs::create_dir_all(home.join(".ssh")).expect("a folder");
        let prefix = root.join(prefix);
        for entry in entries.iter().chain(&["bin/"]) {
            let (name, target) = entry.split_once(" -> ").map_or((*entry, None), |(name, to)| (name, Some(to)));
            let path = prefix.join(name);
            let folder = if name.ends_with('/') { &path } else { path.parent().expect("below") };
            std::fs::create_dir_all(folder).expect("a folder");
            match target {
                Some(target) => symlink(target, path).expect("a link"),
                None if !name.ends_with('/') => std::fs::write(path, "").expect("a file"),
                None => {}
            }
        }
        for (way, expected) in [(Way::Folder, on_path), (Way::Link, by_link)] {
            let found = parts(&prefix.join("bin"), way, &home);
            let short = |part: &Part| {
                let name = part.at.strip_prefix(&prefix).expect("below").display().to_string();
                if part.look == Look::Settings { name + "*" } else { name }
            };
            assert_eq!(found.iter().map(short).collect::<Vec<_>>().join(" "), expected, "{way:?} {entries:?}");
        }
    }

    #[test]
    fn an_installation_shows_what_its_kind_has_and_nothing_else() {
        let prefix = "home/tools/x";
        check(prefix, &["lib/", "share/", ".env", "notes", "conf/", "src/"], "lib share", "bin lib share");
        check(
            prefix,
            &["libexec/", "arm-eabi/bin/", "notes-gcc/", "bin/arm-eabi-gcc"],
            "arm-eabi libexec",
            "arm-eabi bin libexec",
        );
        check(prefix, &["release", "conf/", "jmods/"], "conf jmods release", "bin conf jmods release");
        check(prefix, &["release/", "conf/"], "", "bin");
        check(prefix, &["pkg/tool/", "src/", "VERSION"], "VERSION pkg src", "VERSION bin pkg src");
        check(prefix, &["jars/", "RELEASE", "conf/", "work/"], "RELEASE conf* jars", "RELEASE bin conf* jars");
        check(prefix, &["boot/", "conf/settings.xml"], "boot conf*", "bin boot conf*");
        check(prefix, &["releases/", "erts-14/", "log/"], "erts-14 releases", "bin erts-14 releases");
        check(prefix, &["conda-meta/", "ssl/", "pkgs/", "envs/", "etc/conda/"], "ssl", "bin ssl");
        let brew = ["Cellar/", "opt/", "etc/ca-certificates/", "etc/my.cnf", "var/"];
        check("brew", &brew, "Cellar etc/ca-certificates opt", "Cellar bin etc/ca-certificates opt");
    }

    #[test]
    fn a_home_a_project_and_what_holds_credentials_show_no_more_than_libraries() {
        let all = ["lib/", "share/", "libexec/"];
        check("home", &all, "", "");
        check("", &all, "", "");
        check("home/.local", &all, "lib", "");
        for secret in [".netrc", ".aws/", "credentials", ".git/"] {
            check("home/work/x", &[&all[..], &[secret]].concat(), "lib", "");
        }
        check("other", &[&all[..], &[".ssh/"]].concat(), "lib", "");
        check("opt/clone", &[&all[..], &[".git/"]].concat(), "lib libexec share", "");
    }

    #[test]
    fn a_part_that_is_a_link_shows_only_what_is_shown_anyway() {
        let links =
            ["lib/", "private/", "lib64 -> lib", "share -> private", "include -> ../../.ssh", "libexec -> /usr/lib"];
        check("home/tools/x", &links, "lib lib64 libexec", "bin lib lib64 libexec");
    }

    #[test]
    fn modules_are_shown_as_a_whole_unless_a_project_has_them() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = dir.path().canonicalize().expect("it is there");
        let found = |program: &str| {
            let part = modules_of(&home.join(program), &home)?;
            Some(part.at.strip_prefix(&home).expect("below").display().to_string())
        };
        std::fs::create_dir_all(home.join("work/.git")).expect("a folder");
        assert_eq!(found("x/node_modules/a/node_modules/b/cli.js"), Some("x/node_modules".into()));
        assert_eq!(found("node_modules/a/cli.js"), Some("node_modules".into()));
        assert_eq!(found("work/sub/node_modules/a/cli.js"), None);
        assert_eq!(found("x/a/cli.js"), None);
    }
}
