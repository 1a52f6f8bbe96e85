//! A plan from its file: reads it and what it includes, shows everything that is wrong with it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};
use swarm_orchestrator::report::{Style, exit, words};
use swarm_plans::file::TEXT_BYTES_MAX;
use swarm_plans::{Diagnostic, Parsed, Severity, SourceFile, TaskGraph};

use crate::commands::failure::Failure;
use crate::commands::surroundings::Surroundings;

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
        let path = it.folder.join(&self.plan);
        let text =
            read(&path).map_err(|reason| Failure::usage(format!("read {}: {reason}", self.plan.display()), None))?;
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let Parsed { plan, mut diagnostics, sources } =
            swarm_plans::parse(&self.plan.to_string_lossy(), &text, &self.sets, &mut |include| {
                read(&folder.join(include))
            });
        let graph = plan.and_then(|plan| match TaskGraph::expand(plan) {
            Ok(graph) => Some(graph),
            Err(more) => {
                diagnostics.extend(more);
                None
            }
        });
        it.err.write(&render(&diagnostics, &sources, it.err.style, it.err.columns()))?;
        graph.map(|graph| (graph, sources)).ok_or(Failure::Said(exit::USAGE))
    }
}

/// All diagnostics as rustc would show them, and a last line that counts them; empty when there are none.
pub fn render(diagnostics: &[Diagnostic], sources: &[SourceFile], style: Style, columns: u16) -> String {
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Coloured => Renderer::styled(),
    };
    let renderer = renderer.term_width(columns.into());
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&render_one(diagnostic, sources, &renderer));
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

/// A text file, bounded, or why not.
fn read(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(TEXT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(format!("it is longer than {TEXT_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it has the form key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_show_their_line_a_caret_and_a_hint() {
        let text = "version = 1\n[tasks.a]\nrn = \"true\"\nneeds = [\"b\"]\n";
        let Parsed { diagnostics, sources, .. } =
            swarm_plans::parse("demo.toml", text, &[], &mut |_| Err("no includes here".to_owned()));
        insta::assert_snapshot!(render(&diagnostics, &sources, Style::Plain, 100));
    }
}
