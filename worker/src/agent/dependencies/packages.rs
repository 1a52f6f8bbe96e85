//! Packages of Rust and what they need of each other, as cargo itself says: `cargo metadata`, offline, in the agent's cage.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::resolve::Edges;
use crate::agent::programs::{self, End};
use crate::agent::setting::Setting;

/// How long cargo may take.
const TIME_MAX: Duration = Duration::from_secs(60);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// The longest word of cargo that is shown, in bytes.
const SAID_BYTES_MAX: usize = 600;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    /// The folder of a package of the worktree; others have none.
    path: Option<String>,
    /// `dev`, `build` or nothing.
    kind: Option<String>,
}

/// The packages of the workspace of a manifest, each as `name (folder)`, with what each needs.
///
/// # Errors
/// Why cargo does not say it, for the model.
pub fn packages(setting: &Setting, manifest: &str) -> Result<Edges, String> {
    let answer = setting.scratch.join("cargo-metadata.json");
    // The answer is larger than what a program's output is kept of.
    let script = "exec cargo metadata --offline --no-deps --format-version 1 --manifest-path \"$1\" > \"$2\"";
    let mut command = setting.command("/bin/sh");
    command.args(["-c", script, "sh", manifest]).arg(&answer);
    let said = programs::ask(command, &[], TIME_MAX);
    match said.end {
        End::Exited(0) => {}
        End::TimedOut => return Err(format!("cargo metadata took longer than {} s", TIME_MAX.as_secs())),
        _ => {
            return Err(format!(
                "cargo metadata failed: {}",
                crate::agent::tools::bounded(said.stderr.trim(), SAID_BYTES_MAX)
            ));
        }
    }
    let length = answer.metadata().map_or(0, |facts| facts.len());
    if length > ANSWER_BYTES_MAX {
        return Err(format!("cargo metadata said more than {ANSWER_BYTES_MAX} bytes"));
    }
    let text = std::fs::read(&answer).map_err(|error| format!("read what cargo said: {error}"))?;
    edges(&setting.root, &text)
}

/// What cargo's words say. Tests may need what needs the package: they are left out.
fn edges(root: &Path, text: &[u8]) -> Result<Edges, String> {
    let metadata: Metadata = serde_json::from_slice(text).map_err(|error| format!("read what cargo said: {error}"))?;
    let folder = |package: &Package| Path::new(&package.manifest_path).parent().map(Path::to_owned).unwrap_or_default();
    let shown = |package: &Package| {
        let at = folder(package);
        let at = at.strip_prefix(root).unwrap_or(&at).display().to_string();
        format!("{} ({})", package.name, if at.is_empty() { "." } else { at.as_str() })
    };
    let mut edges = Edges::new();
    for package in &metadata.packages {
        let product = package.dependencies.iter().filter(|needed| needed.kind.as_deref() != Some("dev"));
        let folders: BTreeSet<&Path> = product.filter_map(|needed| needed.path.as_deref().map(Path::new)).collect();
        let own = shown(package);
        let needed = metadata.packages.iter().filter(|other| folders.contains(folder(other).as_path())).map(shown);
        let needed = needed.filter(|other| *other != own).collect();
        edges.insert(own, needed);
    }
    Ok(edges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_what_packages_need_of_each_other() {
        let text = br#"{"packages": [
            {"name": "a", "manifest_path": "/w/a/Cargo.toml", "dependencies": [
                {"name": "b", "path": "/w/b", "kind": null}, {"name": "serde", "kind": null}, {"name": "top", "path": "/w", "kind": "dev"}]},
            {"name": "b", "manifest_path": "/w/b/Cargo.toml", "dependencies": []},
            {"name": "top", "manifest_path": "/w/Cargo.toml", "dependencies": [{"name": "a", "path": "/w/a", "kind": "build"}]}
        ]}"#;
        let found = edges(Path::new("/w"), text).unwrap();
        let needs = |name: &str| found[name].iter().cloned().collect::<Vec<_>>();
        assert_eq!(
            (needs("a (a)"), needs("b (b)"), needs("top (.)")),
            (vec!["b (b)".to_owned()], vec![], vec!["a (a)".to_owned()])
        );
        assert!(edges(Path::new("/w"), b"error: no").is_err());
    }
}
