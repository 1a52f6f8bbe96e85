//! Files that run, or steer what runs, on somebody's machine without being asked for: build scripts, hooks of tools, settings
//! of editors and agents, workflows. A change of one is taken like any other, and named in the report, because the next `cd`,
//! `cargo build`, opened editor, `git commit` or push outside of the cage obeys it.
//!
//! One table, [`KNOWN`]. What belongs in it: a tool in wide use reads the file from the folder it is started or opened in, and
//! the file can name a program, or code, or where to get one. What does not: what only runs when a person names it (a script),
//! and settings that can name no code (`.editorconfig`).

use crate::entry_name;

/// How an entry of the table matches. Names are compared as file systems without case compare them, and as Windows reads them.
#[derive(Debug, Clone, Copy)]
enum Match {
    /// A file of this name, wherever it lies.
    Named(&'static str),
    /// A file whose name begins so.
    Begins(&'static str),
    /// A file whose name ends so.
    Ends(&'static str),
    /// Anything in a folder of this name, or in a file of it.
    In(&'static str),
}

use Match::{Begins, Ends, In, Named};

/// What is known, by who obeys it.
const KNOWN: &[(&str, &[Match])] = &[
    (
        "a shell that enters the folder, and what it loads",
        &[
            Begins(".envrc"),
            Named(".env"),
            Named(".autoenv"),
            Named(".autoenv.zsh"),
            Named("flake.nix"),
            Named("shell.nix"),
            Named("default.nix"),
            Named("devenv.nix"),
            Named("devbox.json"),
            Named("mise.toml"),
            Named("mise.local.toml"),
            Named(".mise.toml"),
            Named(".mise.local.toml"),
            In(".mise"),
            Named(".tool-versions"),
            Named(".sdkmanrc"),
            Named(".nvmrc"),
            Named(".node-version"),
            Named(".python-version"),
            Named(".ruby-version"),
            Named(".java-version"),
            Named("rust-toolchain"),
            Named("rust-toolchain.toml"),
        ],
    ),
    (
        "git",
        &[
            Named(".gitattributes"),
            Named(".gitmodules"),
            Named(".gitconfig"),
            Named(".lfsconfig"),
            In(".githooks"),
            In(".git-hooks"),
            In(".hooks"),
            In(".husky"),
            Begins(".huskyrc"),
            Begins("lefthook."),
            Begins("lefthook-local."),
            Begins(".lefthook"),
            In(".lefthook"),
            In(".lefthook-local"),
            Begins(".pre-commit-"),
            Named(".overcommit.yml"),
            Begins(".lintstagedrc"),
            Begins("lint-staged.config."),
            Begins(".commitlintrc"),
            Begins("commitlint.config."),
        ],
    ),
    (
        "another version control, whose settings lie in the folder",
        &[In(".hg"), In(".jj"), In(".svn"), In(".bzr"), In("_darcs"), In(".pijul")],
    ),
    (
        "an editor that opens the folder",
        &[
            In(".vscode"),
            Ends(".code-workspace"),
            In(".idea"),
            In(".zed"),
            In(".helix"),
            In(".fleet"),
            In(".nova"),
            In(".swiftpm"),
            In(".bsp"),
            Ends(".sublime-project"),
            Named(".nvim.lua"),
            Named(".nvimrc"),
            Named(".exrc"),
            Named(".vimrc"),
            Named("_vimrc"),
            Named(".gvimrc"),
            Begins(".lvimrc"),
            Begins(".dir-locals"),
            Named(".luarc.json"),
            Named(".clangd"),
            Named("hie.yaml"),
            Named("omnisharp.json"),
            Named("analysis_options.yaml"),
            In(".devcontainer"),
            Named(".devcontainer.json"),
            Begins(".gitpod."),
            In(".idx"),
            Named(".replit"),
            Named("replit.nix"),
            Named("desktop.ini"),
            Named("autorun.inf"),
            Ends(".lnk"),
        ],
    ),
    (
        "a linter, a formatter or a debugger, which editors start, too",
        &[
            Begins(".eslintrc"),
            Begins("eslint.config."),
            Begins(".prettierrc"),
            Begins("prettier.config."),
            Begins(".stylelintrc"),
            Begins("stylelint.config."),
            Named(".pylintrc"),
            Named("pylintrc"),
            Named(".flake8"),
            Named("mypy.ini"),
            Named(".mypy.ini"),
            Begins(".rubocop."),
            Named(".solargraph.yml"),
            Begins(".php-cs-fixer."),
            Named(".formatter.exs"),
            Begins(".golangci."),
            Named(".gdbinit"),
            Named(".lldbinit"),
            Named(".pdbrc"),
            Named(".irbrc"),
            Named(".pryrc"),
            Named(".iex.exs"),
            Named(".ghci"),
            Named(".rprofile"),
            Named(".renviron"),
            Named(".octaverc"),
        ],
    ),
    (
        "an agent",
        &[
            Named("agents.md"),
            Named("agents.override.md"),
            Named("claude.md"),
            Named("claude.local.md"),
            Named("claw.md"),
            Named("gemini.md"),
            Named("qwen.md"),
            Named("warp.md"),
            Named(".mcp.json"),
            Named("mcp.json"),
            Begins("opencode.json"),
            Named("crush.json"),
            Named(".crush.json"),
            Named(".cursorrules"),
            Named(".windsurfrules"),
            Named(".roomodes"),
            Named(".goosehints"),
            Named(".rules"),
            Begins(".aider"),
            In(".agent"),
            In(".agents"),
            In(".amazonq"),
            In(".augment"),
            In(".claude"),
            In(".clinerules"),
            In(".codex"),
            In(".continue"),
            In(".cursor"),
            In(".gemini"),
            In(".junie"),
            In(".kiro"),
            In(".opencode"),
            In(".qwen"),
            In(".roo"),
            In(".swarm"),
            In(".trae"),
            In(".windsurf"),
            In("skills"),
        ],
    ),
    (
        "a build, a test or an installation in the folder",
        &[
            Named("build.rs"),
            Named("cargo.toml"),
            In(".cargo"),
            Named("package.json"),
            Named(".npmrc"),
            Begins(".yarnrc"),
            In(".yarn"),
            Begins(".pnpmfile."),
            Named("bunfig.toml"),
            Named("deno.json"),
            Begins("babel.config."),
            Begins(".babelrc"),
            Begins("gruntfile."),
            Begins("gulpfile."),
            Begins("jest.config."),
            Begins("karma.conf."),
            Begins("next.config."),
            Begins("postcss.config."),
            Begins("rollup.config."),
            Begins("tailwind.config."),
            Begins("vite.config."),
            Begins("vitest.config."),
            Begins("webpack.config."),
            Named("setup.py"),
            Named("setup.cfg"),
            Named("pyproject.toml"),
            Named("conftest.py"),
            Named("pytest.ini"),
            Named("sitecustomize.py"),
            Named("usercustomize.py"),
            Ends(".pth"),
            Named("tox.ini"),
            Named("noxfile.py"),
            Named("pip.conf"),
            Named("gemfile"),
            Named("gems.rb"),
            Named("rakefile"),
            Named(".rspec"),
            Ends(".gemspec"),
            In(".bundle"),
            Named("composer.json"),
            Named(".user.ini"),
            Named(".htaccess"),
            Named("makefile"),
            Named("gnumakefile"),
            Named("makefile.pl"),
            Named("build.pl"),
            Named("justfile"),
            Named(".justfile"),
            Named("taskfile.yml"),
            Named("taskfile.yaml"),
            Named("taskfile.dist.yml"),
            Named("taskfile.dist.yaml"),
            Named("cmakelists.txt"),
            Begins("cmakepresets."),
            Begins("cmakeuserpresets."),
            Named("meson.build"),
            Named("build.zig"),
            Named(".bazelrc"),
            Named(".bazeliskrc"),
            Named(".bazelversion"),
            Named("module.bazel"),
            Named("workspace.bazel"),
            Begins("build.gradle"),
            Begins("settings.gradle"),
            Named("gradle.properties"),
            Begins("gradle-wrapper."),
            Named("gradlew"),
            Named("gradlew.bat"),
            Named("pom.xml"),
            Named("mvnw"),
            Named("mvnw.cmd"),
            In(".mvn"),
            Ends(".sbt"),
            Named(".sbtopts"),
            Named(".jvmopts"),
            Named("package.swift"),
            Named("podfile"),
            Named("mix.exs"),
            Named("rebar.config"),
            Named("project.clj"),
            Named("setup.hs"),
            Named("config.nims"),
            Begins("directory.build."),
            Named("nuget.config"),
            Ends(".csproj"),
            Ends(".fsproj"),
            Ends(".vbproj"),
            Ends(".vcxproj"),
            Named("dockerfile"),
            Begins("dockerfile."),
            Ends(".dockerfile"),
            Named("containerfile"),
            Named("compose.yaml"),
            Named("compose.yml"),
            Named("compose.override.yaml"),
            Named("compose.override.yml"),
            Begins("docker-compose."),
            Named("vagrantfile"),
            Named("procfile"),
        ],
    ),
    (
        "a server that a push or a merge reaches",
        &[
            In(".github"),
            In(".gitlab"),
            Begins(".gitlab-ci."),
            In(".gitea"),
            In(".forgejo"),
            In(".circleci"),
            In(".buildkite"),
            In(".woodpecker"),
            Begins(".woodpecker."),
            In(".azure-pipelines"),
            Begins("azure-pipelines."),
            Named("bitbucket-pipelines.yml"),
            Named("jenkinsfile"),
            Begins("jenkinsfile."),
            Named(".travis.yml"),
            Named(".drone.yml"),
            Named(".cirrus.yml"),
            Named(".appveyor.yml"),
            Named("appveyor.yml"),
            In(".semaphore"),
            In(".teamcity"),
            In(".builds"),
            Named(".build.yml"),
            Named("netlify.toml"),
            Named("vercel.json"),
            Begins("renovate.json"),
            Begins(".renovaterc"),
        ],
    ),
];

/// Whether a path (components separated by `/`) names such a file.
pub fn runs_on_its_own(path: &[u8]) -> bool {
    let parts: Vec<Vec<u8>> = path.split(|&byte| byte == b'/').map(entry_name::widest).collect();
    let Some(name) = parts.last() else { return false };
    KNOWN.iter().flat_map(|(_, all)| *all).any(|known| match known {
        Named(known) => name == known.as_bytes(),
        Begins(start) => name.starts_with(start.as_bytes()),
        Ends(end) => name.ends_with(end.as_bytes()) && name.len() > end.len(),
        In(folder) => parts.iter().any(|part| part == folder.as_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Match> {
        KNOWN.iter().flat_map(|(_, all)| *all).copied()
    }

    /// Names that an entry is about.
    fn examples(known: Match) -> Vec<String> {
        match known {
            Named(name) => vec![name.to_owned()],
            Begins(start) => vec![format!("{start}x")],
            Ends(end) => vec![format!("x{end}")],
            In(folder) => vec![folder.to_owned(), format!("{folder}/x"), format!("{folder}/x/y")],
        }
    }

    #[test]
    fn every_entry_is_found_wherever_it_lies_and_however_a_file_system_spells_it() {
        for name in all().flat_map(examples) {
            let upper = name.to_uppercase();
            for path in
                [name.clone(), format!("a/b/{name}"), upper.clone(), format!("a/{upper}. "), format!("{name}:x")]
            {
                assert!(runs_on_its_own(path.as_bytes()), "{path}");
            }
            let unseen = format!("{}\u{200c}{}", &name[..1], &name[1..]);
            assert!(runs_on_its_own(unseen.as_bytes()), "{name} with a character that HFS+ drops");
        }
    }

    #[test]
    fn the_table_is_written_as_names_are_compared_and_says_nothing_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for known in all() {
            let (Named(text) | Begins(text) | Ends(text) | In(text)) = known;
            assert_eq!(entry_name::widest(text.as_bytes()), text.trim_end_matches('.').as_bytes(), "{known:?}");
            assert!(seen.insert(format!("{known:?}")), "{known:?} stands there twice");
        }
    }

    #[test]
    fn what_attackers_and_people_write_is_told_apart() {
        for path in [
            "x/.cargo/config.toml",
            ".config/mise.toml",
            "Conftest.py",
            "GEMINI.md",
            ".zed/tasks.json",
            "lefthook-local.yml",
            "lib/python3/site-packages/evil.pth",
            "compose.override.yaml",
            ".Rprofile",
            "Project.CSPROJ",
        ] {
            assert!(runs_on_its_own(path.as_bytes()), "{path}");
        }
        for path in [
            "",
            "src/lib.rs",
            "src/rebuild.rs",
            "src/build.rs.bak",
            "docs/Makefile.md",
            "github/x",
            ".editorconfig",
            ".gitignore",
            "README.md",
            "src/compose.rs",
            "src/dockerfile_parser.go",
            "src/promise.ts",
            "agents/mod.rs",
            ".pth",
            "a.path",
            "scripts/run.sh",
        ] {
            assert!(!runs_on_its_own(path.as_bytes()), "{path}");
        }
    }
}
