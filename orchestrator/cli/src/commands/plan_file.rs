//! A plan from its file: reads it and what it includes, shows everything that is wrong with it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};
use swarm_orchestrator::report::{Style, exit, words};
use swarm_orchestrator::run::RunError;
use swarm_plans::file::TEXT_BYTES_MAX;
use swarm_plans::{Answers, Diagnostic, Parsed, Severity, SourceFile, TaskGraph, place, unsaid};

use crate::commands::failure::Failure;
use crate::commands::surroundings::Surroundings;
use crate::commands::user_config;

/// A plan on the command line.
#[derive(Debug, clap::Args)]
pub struct PlanFile {
    /// The plan's file.
    #[arg(value_name = "PLAN")]
    pub plan: PathBuf,
    /// Sets one of the plan's [vars]; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub sets: Vec<(String, String)>,
}

impl PlanFile {
    /// Reads, parses and expands it as far as its text goes; with the graph come the plan's text, what it includes, and each
    /// `--set`. Warnings are shown and do not stop it.
    ///
    /// # Errors
    /// The file is not there, or the plan has mistakes; they are all on stderr then.
    pub fn load(&self, it: &Surroundings) -> Result<(TaskGraph, Vec<SourceFile>), Failure> {
        self.load_for(Answers::Asked, it)
    }

    /// What may have been meant where there is no such file.
    fn meant(&self) -> Option<String> {
        let name = self.plan.to_string_lossy();
        match name.contains(['*', '?']) {
            true => Some(
                "one file is a plan, and no pattern is one: swarm run PLAN for each of them, or `include` in one"
                    .to_owned(),
            ),
            false if self.plan.extension().is_none() => Some("PLAN is a file in TOML, like plan.toml".to_owned()),
            false => None,
        }
    }

    /// As [`PlanFile::load`]; recorded answers need nobody's models.
    ///
    /// # Errors
    /// As [`PlanFile::load`].
    pub fn load_for(&self, answers: Answers, it: &Surroundings) -> Result<(TaskGraph, Vec<SourceFile>), Failure> {
        let path = it.folder.join(&self.plan);
        let text = read(&path)
            .map_err(|reason| Failure::usage(format!("read {}: {reason}", self.plan.display()), self.meant()))?;
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let Parsed { plan, mut diagnostics, sources } =
            swarm_plans::parse(&self.plan.to_string_lossy(), &text, &self.sets, &mut |include| {
                read_included(&folder, include)
            });
        let graph = plan.and_then(|plan| match TaskGraph::expand(plan) {
            Ok(graph) => Some(graph),
            Err(more) => {
                diagnostics.extend(more);
                None
            }
        });
        let mut shown = sources.clone();
        if let Some(graph) = &graph {
            diagnostics.extend(link(graph, answers, &mut shown)?);
        }
        let failed = diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
        it.err.write(&render(&diagnostics, &shown, it.err.style, it.err.columns()))?;
        graph.filter(|_| !failed).map(|graph| (graph, sources)).ok_or(Failure::Said(exit::USAGE))
    }
}

/// A run that its plan does not allow to start: what is wrong is shown where it stands in the plan. What stands nowhere in it is
/// still to be told.
pub fn misfits_shown(error: RunError, sources: &[SourceFile], it: &Surroundings) -> Failure {
    let diagnostics = match error {
        RunError::Misfits(diagnostics) => diagnostics,
        other => match policies_at_fault(&other, sources) {
            shown if shown.is_empty() => return other.into(),
            shown => shown,
        },
    };
    match it.err.write(&render(&diagnostics, sources, it.err.style, it.err.columns())) {
        Ok(()) => Failure::Said(exit::USAGE),
        Err(failure) => failure,
    }
}

/// What is wrong with the models of a plan and of the person who runs it, together; the configuration joins the sources.
fn link(graph: &TaskGraph, answers: Answers, sources: &mut Vec<SourceFile>) -> Result<Vec<Diagnostic>, Failure> {
    let (user, mut diagnostics) = match user_config::text()? {
        Some(config) => {
            let read = swarm_plans::models::user_config(&config.text, sources.len());
            sources.push(config);
            read
        }
        None => Default::default(),
    };
    diagnostics.extend(swarm_plans::models::link(graph.plan(), &user, answers).1);
    Ok(diagnostics)
}

/// All diagnostics as rustc would show them, and a last line that counts them; empty when there are none.
pub fn render(diagnostics: &[Diagnostic], sources: &[SourceFile], style: Style, columns: u16) -> String {
    // The line that is shown may hold a password; commands of a plan stay as they are written.
    let line = |line: &str| if line.contains("url") { unsaid(line) } else { line.to_owned() };
    let text = |text: &str| text.split_inclusive('\n').map(line).collect();
    let shown = |file: &SourceFile| SourceFile { name: file.name.clone(), text: text(&file.text) };
    let sources: Vec<SourceFile> = sources.iter().map(shown).collect();
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Coloured => Renderer::styled(),
    };
    let renderer = renderer.term_width(columns.into());
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&render_one(diagnostic, &sources, &renderer));
        text.push_str("\n\n");
    }
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count() as u64;
    if errors > 0 {
        text.push_str(&format!("error: the plan has {}\n", words::count(errors, "error")));
    }
    text
}

fn render_one(diagnostic: &Diagnostic, sources: &[SourceFile], renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let places = std::iter::once((diagnostic.source, &diagnostic.span, diagnostic.label.as_deref()))
        .chain(diagnostic.related.iter().map(|(source, span, words)| (*source, span, Some(words.as_str()))));
    // One snippet a source, in the order in which they are first named.
    let mut snippets: Vec<(usize, Snippet<'_, Annotation<'_>>)> = Vec::new();
    for (at, (source, span, label)) in places.enumerate() {
        let Some(file) = sources.get(source) else { continue };
        let kind = if at == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        let span = span.start.min(file.text.len())..span.end.min(file.text.len());
        let annotation = kind.span(span).label(label);
        let known = snippets.iter().position(|(known, _)| *known == source);
        let (_, snippet) = match known {
            Some(at) => snippets.remove(at),
            None => (source, Snippet::source(file.text.as_str()).path(file.name.as_str())),
        };
        let place = known.unwrap_or(snippets.len());
        snippets.insert(place, (source, snippet.annotation(annotation)));
    }
    let title = level.primary_title(diagnostic.message.as_str());
    let mut group = title.elements(snippets.into_iter().map(|(_, snippet)| snippet));
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    renderer.render(&[group])
}

/// Where a plan says a key of a policy, and in it a text, as `file:line`.
pub fn place_of(sources: &[SourceFile], (policy, key, text): (&str, &str, Option<&str>)) -> Option<String> {
    let at = place::find(sources, &["sandbox", policy, key], text)?;
    let source = &sources[at.source as usize];
    let line = source.text[..at.span().start].matches('\n').count() + 1;
    Some(format!("{}:{line}", source.name))
}

/// What the plan itself is refused for here, where it stands in the plan. Empty when its texts do not say it, or when nothing is
/// the plan's own.
pub fn policies_at_fault(error: &RunError, sources: &[SourceFile]) -> Vec<Diagnostic> {
    let RunError::Policies(refused) = error else { return Vec::new() };
    let of_the_plan = refused.iter().filter(|error| error.is_the_plans());
    let shown = of_the_plan.filter_map(|error| {
        let (policy, key, text) = error.place()?;
        let at = place::find(sources, &["sandbox", policy, key], text)?;
        Some(Diagnostic::error(at, error.to_string()).hint(error.hint()))
    });
    shown.collect()
}

/// A text file, bounded, or why not.
pub fn read(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(TEXT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(format!("it is longer than {TEXT_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
}

/// An included file's text. A plan may come from anybody, and its mistakes are shown with their lines: it includes what lies in
/// its own repository, or below its own folder where there is none, and nothing else of the machine.
fn read_included(folder: &Path, include: &str) -> Result<String, String> {
    let folder = folder.canonicalize().map_err(|error| error.to_string())?;
    let top = folder.ancestors().find(|folder| folder.join(".git").exists()).unwrap_or(&folder);
    let path = folder.join(include).canonicalize().map_err(|error| error.to_string())?;
    if !path.starts_with(top) {
        return Err(format!("it lies outside of {}", top.display()));
    }
    if !path.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    read(&path)
}

/// `key=value` of the command line.
///
/// # Errors
/// What is missing, for people.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it has the form key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_cannot_be_had_has_a_place() {
        let text = "version = 1\n[sandbox.a]\nread = [\"/x\"]\n[sandbox.b]\ntier = \"landlock\"\nread = [\n  \"/y\",\n  \"/x\",\n]\n";
        let sources = [SourceFile { name: "p.toml".to_owned(), text: text.to_owned() }];
        let check = |policy, key, text, expected: Option<&str>| {
            assert_eq!(place_of(&sources, (policy, key, text)).as_deref(), expected, "{policy} {key} {text:?}");
        };
        check("a", "read", Some("/x"), Some("p.toml:3"));
        check("b", "read", Some("/x"), Some("p.toml:8"));
        check("b", "read", Some("/z"), Some("p.toml:6"));
        check("b", "tier", None, Some("p.toml:5"));
        check("b", "write", None, None);
        check("c", "read", None, None);
    }

    #[test]
    fn a_plan_includes_files_of_its_own_repository_only() {
        let outside = tempfile::tempdir().expect("a temporary folder");
        let house = outside.path().join("house");
        std::fs::create_dir_all(house.join(".git")).expect("a folder");
        std::fs::create_dir_all(house.join("plans/more")).expect("a folder");
        for file in ["secret", "house/common.toml", "house/plans/more/x.toml"] {
            std::fs::write(outside.path().join(file), file).expect("a file");
        }
        std::os::unix::fs::symlink(outside.path().join("secret"), house.join("plans/link")).expect("a link");
        let included = |include: &str| read_included(&house.join("plans"), include);
        assert_eq!(included("../common.toml").as_deref(), Ok("house/common.toml"));
        assert_eq!(included("more/x.toml").as_deref(), Ok("house/plans/more/x.toml"));
        for include in ["../../secret", "link", "/etc/hostname"] {
            assert!(included(include).unwrap_err().contains("lies outside of"), "{include}");
        }
        assert!(included("more").unwrap_err().contains("not a regular file"));
    }

    #[test]
    fn mistakes_show_their_line_a_caret_and_a_hint() {
        let text = "version = 1\n[tasks.a]\nrn = \"true\"\nneeds = [\"b\"]\n";
        let Parsed { diagnostics, sources, .. } =
            swarm_plans::parse("demo.toml", text, &[], &mut |_| Err("no includes here".to_owned()));
        insta::assert_snapshot!(render(&diagnostics, &sources, Style::Plain, 100));
    }
}
