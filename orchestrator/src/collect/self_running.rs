//! Files that run on somebody's machine without being asked for: build scripts, hooks of tools, workflows. A change of one
//! is taken like any other, and named in the report, because the next `cargo build`, `npm install` or `cd` outside of the
//! cage executes it.

/// File names that are run wherever they lie.
const NAMES: &[&str] = &[
    "build.rs",
    "package.json",
    "setup.py",
    "conftest.py",
    "sitecustomize.py",
    "Makefile",
    "GNUmakefile",
    "makefile",
    "justfile",
    "Rakefile",
    "CMakeLists.txt",
    "build.gradle",
    "build.gradle.kts",
    "pom.xml",
    "gradlew",
    "mvnw",
    "tox.ini",
    "noxfile.py",
    "pyproject.toml",
    "Dockerfile",
    "compose.yaml",
    "docker-compose.yml",
    "Taskfile.yml",
    "mise.toml",
    ".mise.toml",
    ".tool-versions",
    "jest.config.js",
    "vite.config.js",
    "vite.config.ts",
    ".pnpmfile.cjs",
    ".gdbinit",
    ".mcp.json",
    "AGENTS.md",
    "CLAUDE.md",
    "CLAW.md",
    ".envrc",
    ".envrc.local",
    ".npmrc",
    ".yarnrc.yml",
    ".gitattributes",
    ".gitmodules",
    ".pre-commit-config.yaml",
    "rust-toolchain",
    "rust-toolchain.toml",
    "Jenkinsfile",
    ".gitlab-ci.yml",
];

/// Folders all of whose files are run, or name what is run.
const FOLDERS: &[&str] = &[
    ".cargo",
    ".github",
    ".vscode",
    ".idea",
    ".husky",
    ".devcontainer",
    ".circleci",
    ".claude",
    ".codex",
    ".cursor",
    ".mvn",
    ".swarm",
    "skills",
];

/// Whether a path (components separated by `/`) names such a file.
pub fn runs_on_its_own(path: &[u8]) -> bool {
    let mut parts = path.split(|&byte| byte == b'/');
    let Some(name) = parts.next_back() else { return false };
    NAMES.iter().any(|known| known.as_bytes() == name)
        || parts.any(|part| FOLDERS.iter().any(|known| known.as_bytes() == part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_scripts_workflows_and_tool_settings_are_named() {
        for path in [
            "build.rs",
            "a/b/build.rs",
            ".github/workflows/ci.yml",
            "x/.cargo/config.toml",
            ".envrc",
            "Makefile",
            "x/AGENTS.md",
            "CLAW.md",
            "skills/review/SKILL.md",
            "skills/review/run.sh",
        ] {
            assert!(runs_on_its_own(path.as_bytes()), "{path}");
        }
        for path in ["src/lib.rs", "src/rebuild.rs", "docs/Makefile.md", "github/x", ""] {
            assert!(!runs_on_its_own(path.as_bytes()), "{path}");
        }
    }
}
