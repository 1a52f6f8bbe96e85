//! Toolchain presets: which folders of a person's home a tool needs in order to work, and which of its environment
//! variables name them. Only what is listed is shown, so credential files that lie beside (`~/.cargo/credentials.toml`,
//! `~/.npmrc`, `~/.pypirc`, `~/.m2/settings.xml` …) are never visible: nothing has to be hidden afterwards.

use std::path::{Path, PathBuf};

use super::unnamed::Look;
use super::{Host, credentials, way};

/// How a folder of a toolchain is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Read-only.
    Read,
    /// Copy-on-write where the tier can do that, read-only elsewhere: caches that tools lock or extend.
    Cow,
}

/// `(variable that moves it, default below the home folder, what is shown below that)`; an empty variable moves nothing, an
/// empty default has none, an empty path is all of it.
type HomeOf = (&'static str, &'static str, &'static [(&'static str, Show)]);

/// A folder or file that a toolchain needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// An existing host path.
    pub path: PathBuf,
    /// How it is shown.
    pub show: Show,
    /// How closely it is looked at before: a variable may name any folder.
    pub look: Look,
}

/// One toolchain.
#[derive(Debug)]
pub struct Toolchain {
    /// The name in a policy's `tools`.
    pub name: &'static str,
    /// It is taken by default when one of these is on the caller's `PATH`.
    programs: &'static [&'static str],
    /// Where it lives.
    homes: &'static [HomeOf],
    /// Files right in the caller's home folder that say which version of a tool is meant.
    files: &'static [&'static str],
    /// Environment variables that are let through beside those that name homes.
    variables: &'static [&'static str],
}

/// All toolchains that are known.
pub const TOOLCHAINS: &[Toolchain] = &[
    Toolchain {
        name: "rust",
        programs: &["cargo", "rustc", "rustup"],
        homes: &[
            (
                "CARGO_HOME",
                ".cargo",
                &[
                    ("bin", Show::Read),
                    ("env", Show::Read),
                    ("config", Show::Read),
                    ("config.toml", Show::Read),
                    ("registry", Show::Cow),
                    ("git", Show::Cow),
                ],
            ),
            ("RUSTUP_HOME", ".rustup", &[("", Show::Read)]),
        ],
        files: &[],
        variables: &["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "RUSTDOCFLAGS", "CARGO_BUILD_JOBS", "CARGO_NET_OFFLINE"],
    },
    Toolchain {
        name: "node",
        programs: &["node", "npm", "pnpm", "yarn"],
        homes: &[
            ("NVM_DIR", ".nvm", &[("", Show::Read)]),
            (
                "VOLTA_HOME",
                ".volta",
                &[("bin", Show::Read), ("tools", Show::Read), ("layout.v3", Show::Read), ("layout.v4", Show::Read)],
            ),
            ("FNM_DIR", ".local/share/fnm", &[("node-versions", Show::Read), ("aliases", Show::Read)]),
            ("NODENV_ROOT", ".nodenv", &[("", Show::Read)]),
            ("N_PREFIX", "", &[("bin", Show::Read), ("lib", Show::Read), ("n", Show::Read)]),
            (
                "PNPM_HOME",
                ".local/share/pnpm",
                &[("global", Show::Read), ("nodejs", Show::Read), (".tools", Show::Read)],
            ),
            ("npm_config_cache", ".npm", &[("_cacache", Show::Cow)]),
        ],
        files: &[".nvmrc", ".node-version"],
        variables: &["NODE_ENV", "NODE_PATH"],
    },
    Toolchain {
        name: "python",
        programs: &["python3", "python", "pip", "uv"],
        homes: &[
            ("PYENV_ROOT", ".pyenv", &[("", Show::Read)]),
            ("PYTHONUSERBASE", ".local", &[("lib", Show::Read), ("share/uv/python", Show::Read)]),
            ("VIRTUAL_ENV", "", &[("", Show::Read)]),
        ],
        files: &[".python-version"],
        variables: &[
            "PYTHONDONTWRITEBYTECODE",
            "PYTHONUNBUFFERED",
            "PYENV_VERSION",
            "CONDA_PREFIX",
            "CONDA_DEFAULT_ENV",
        ],
    },
    Toolchain {
        name: "go",
        programs: &["go"],
        homes: &[
            ("GOROOT", "", &[("", Show::Read)]),
            ("GOPATH", "go", &[("bin", Show::Read), ("pkg/mod", Show::Cow)]),
            ("GOCACHE", ".cache/go-build", &[("", Show::Cow)]),
            ("GOENV_ROOT", ".goenv", &[("", Show::Read)]),
        ],
        files: &[".go-version"],
        variables: &["GOFLAGS", "GOTOOLCHAIN"],
    },
    Toolchain {
        name: "jvm",
        programs: &["java", "javac", "mvn", "gradle"],
        homes: &[
            ("JAVA_HOME", "", &[("", Show::Read)]),
            ("SDKMAN_DIR", ".sdkman", &[("candidates", Show::Read)]),
            ("JENV_ROOT", ".jenv", &[("", Show::Read)]),
            ("", ".m2", &[("repository", Show::Cow)]),
            ("GRADLE_USER_HOME", ".gradle", &[("caches", Show::Cow), ("wrapper", Show::Read)]),
        ],
        files: &[],
        variables: &[],
    },
    Toolchain {
        name: "ruby",
        programs: &["ruby", "gem", "bundle", "rbenv"],
        homes: &[
            ("RBENV_ROOT", ".rbenv", &[("", Show::Read)]),
            (
                "rvm_path",
                ".rvm",
                &[
                    ("bin", Show::Read),
                    ("scripts", Show::Read),
                    ("lib", Show::Read),
                    ("rubies", Show::Read),
                    ("gems", Show::Read),
                    ("wrappers", Show::Read),
                    ("environments", Show::Read),
                ],
            ),
            ("GEM_HOME", "", &[("", Show::Read)]),
            ("", ".gem", &[("ruby", Show::Read)]),
            ("", ".local/share/gem", &[("ruby", Show::Read)]),
        ],
        files: &[".ruby-version"],
        variables: &["RBENV_VERSION", "GEM_PATH"],
    },
    // Both stand in for programs of any language: what they start reads which version is meant, and lies in their folder.
    Toolchain {
        name: "asdf",
        programs: &["asdf"],
        homes: &[("ASDF_DIR", ".asdf", &[("", Show::Read)]), ("ASDF_DATA_DIR", ".asdf", &[("", Show::Read)])],
        files: &[".tool-versions", ".asdfrc"],
        variables: &[],
    },
    Toolchain {
        name: "mise",
        programs: &["mise"],
        homes: &[
            ("MISE_DATA_DIR", ".local/share/mise", &[("", Show::Read)]),
            ("MISE_CONFIG_DIR", ".config/mise", &[("config.toml", Show::Read)]),
            ("MISE_STATE_DIR", ".local/state/mise", &[("trusted-configs", Show::Read)]),
        ],
        files: &[".tool-versions", ".mise.toml"],
        variables: &[],
    },
];

/// What tells that a folder is the home of a version keeper, wherever it lies, by the variable that names it: these are all there.
const MARKS: &[(&str, &[&str])] = &[
    ("RUSTUP_HOME", &["settings.toml", "toolchains"]),
    ("NVM_DIR", &["nvm.sh"]),
    ("PYENV_ROOT", &["libexec/pyenv", "versions"]),
    ("NODENV_ROOT", &["libexec/nodenv", "versions"]),
    ("RBENV_ROOT", &["libexec/rbenv", "versions"]),
    ("GOENV_ROOT", &["libexec/goenv", "versions"]),
    ("JENV_ROOT", &["libexec/jenv", "versions"]),
];

/// Whether a folder that a variable names is what the variable is for: then what lies deep in it came with the software, as at its own
/// place, and need not be looked through, which takes as long as all that a run does before its first task.
fn is_marked(variable: &str, root: &Path) -> bool {
    let marks = MARKS.iter().find(|(of, _)| *of == variable);
    marks.is_some_and(|(_, marks)| marks.iter().all(|mark| root.join(mark).exists()))
}

/// What one toolchain shows on this host: existing paths only, and the variables to let through.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// What is there, in the table's order.
    pub paths: Vec<Home>,
    /// `(name, value)` as the caller has them, plus the home variables that must be named when `$HOME` is another folder.
    pub variables: Vec<(String, String)>,
}

impl Toolchain {
    /// Whether one of the programs is on the caller's `PATH`.
    pub fn is_on_path(&self, host: &Host) -> bool {
        host.path.iter().any(|dir| self.programs.iter().any(|program| dir.join(program).exists()))
    }

    /// What it shows on this host.
    pub fn shown(&self, host: &Host) -> Shown {
        let mut shown = Shown::default();
        for (variable, default, children) in self.homes {
            let set = host.env.get(*variable).filter(|value| Path::new(value).is_absolute());
            let root = match set {
                Some(value) => PathBuf::from(value),
                None if default.is_empty() => continue,
                None => host.home.join(default),
            };
            // What a task may have led astray is looked at by that way, and not shown.
            let root = way::unnamed(&root, &host.home).unwrap_or(root);
            // A variable that names the home folder itself, or something above it, would show everything in it.
            if host.home.starts_with(&root) || !root.is_dir() {
                continue;
            }
            for (child, show) in *children {
                let path = if child.is_empty() { root.clone() } else { root.join(child) };
                let is_own = root == host.home.join(default) || is_marked(variable, &root);
                let look = match show {
                    // A whole home that somebody moved may be any folder.
                    _ if child.is_empty() && !is_own => Look::Home,
                    Show::Cow => Look::Cache,
                    Show::Read => Look::Installations,
                };
                if path.exists() && !credentials::may_be_told_in(&path) {
                    shown.paths.push(Home { path, show: *show, look });
                }
            }
            if !variable.is_empty() {
                shown.variables.push(((*variable).to_owned(), root.to_string_lossy().into_owned()));
            }
        }
        for name in self.files {
            let path = host.home.join(name);
            if path.is_file() && !credentials::may_be_told_in(&path) {
                shown.paths.push(Home { path, show: Show::Read, look: Look::Settings });
            }
        }
        for variable in self.variables {
            if let Some(value) = host.env.get(*variable) {
                shown.variables.push(((*variable).to_owned(), value.clone()));
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(home: &Path) -> Host {
        Host::new(home.to_owned(), vec![home.join(".cargo/bin")], Default::default())
    }

    #[test]
    fn cargo_is_shown_without_its_credentials() {
        let home = tempfile::tempdir().unwrap();
        for dir in [".cargo/bin", ".cargo/registry", ".rustup/toolchains"] {
            std::fs::create_dir_all(home.path().join(dir)).unwrap();
        }
        std::fs::write(home.path().join(".cargo/bin/cargo"), "").unwrap();
        std::fs::write(home.path().join(".cargo/credentials.toml"), "secret").unwrap();
        let host = host(home.path());
        let rust = TOOLCHAINS.iter().find(|tool| tool.name == "rust").unwrap();
        assert!(rust.is_on_path(&host));
        let paths: Vec<_> = rust.shown(&host).paths.into_iter().map(|home| (home.path, home.show)).collect();
        let below = |path: &str| home.path().join(path);
        let expected =
            [(below(".cargo/bin"), Show::Read), (below(".cargo/registry"), Show::Cow), (below(".rustup"), Show::Read)];
        assert_eq!(paths, expected);
    }

    #[test]
    fn a_home_elsewhere_is_looked_through_unless_it_is_marked_as_one() {
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut host = host(home.path());
        let moved = elsewhere.path().join("rust");
        host.env.insert("RUSTUP_HOME".into(), moved.to_str().unwrap().into());
        std::fs::create_dir_all(moved.join("toolchains")).unwrap();
        let rust = TOOLCHAINS.iter().find(|tool| tool.name == "rust").unwrap();
        let look = |host: &Host| rust.shown(host).paths.into_iter().map(|home| home.look).collect::<Vec<_>>();
        assert_eq!(look(&host), [Look::Home], "it may be anything");
        std::fs::write(moved.join("settings.toml"), "").unwrap();
        assert_eq!(look(&host), [Look::Installations]);
    }

    #[test]
    fn a_variable_that_names_the_home_folder_shows_nothing() {
        let home = tempfile::tempdir().unwrap();
        let mut host = host(home.path());
        host.env.insert("CARGO_HOME".into(), home.path().to_str().unwrap().into());
        host.env.insert("RUSTUP_HOME".into(), "/".into());
        std::fs::create_dir_all(home.path().join("bin")).unwrap();
        let rust = TOOLCHAINS.iter().find(|tool| tool.name == "rust").unwrap();
        assert_eq!(rust.shown(&host), Shown::default());
    }
}
