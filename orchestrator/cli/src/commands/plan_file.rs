//! A plan from its file: reads it and what it includes, shows everything that is wrong with it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};
use swarm_orchestrator::report::{Style, exit, sanitize, words};
use swarm_orchestrator::run::RunError;
use swarm_plans::file::TEXT_BYTES_MAX;
use swarm_plans::{Answers, Beside, Diagnostic, Parsed, Severity, SourceFile, TaskGraph, place, unsaid};

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
    /// Of its tasks, only these and all that they need; `*` stands for anything.
    #[arg(long, value_name = "TASK", value_delimiter = ',')]
    pub only: Vec<String>,
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

    /// What may have been meant where no plan can be read from the file at `path`.
    fn meant(&self, path: &Path) -> Option<String> {
        let name = self.plan.to_string_lossy();
        if name == "-" {
            return Some("a plan is a file: a run that goes on later looks at what it includes from there".to_owned());
        }
        if name.contains(['*', '?']) {
            let hint =
                "one file is a plan, and no pattern is one: swarm run PLAN for each of them, or `include` in one";
            return Some(hint.to_owned());
        }
        match (self.plan.extension(), path.exists()) {
            (_, true) => None,
            (None, false) => Some("PLAN is a file in TOML, like plan.toml".to_owned()),
            // A relative one begins at the folder that `-C` names.
            (Some(_), false) => Some(format!("it was looked for as {}", path.display())),
        }
    }

    /// As [`PlanFile::load`]; recorded answers need nobody's models.
    ///
    /// # Errors
    /// As [`PlanFile::load`].
    pub fn load_for(&self, answers: Answers, it: &Surroundings) -> Result<(TaskGraph, Vec<SourceFile>), Failure> {
        let path = it.folder.join(&self.plan);
        let text = read(&path)
            .map_err(|reason| Failure::usage(format!("read {}: {reason}", self.plan.display()), self.meant(&path)))?;
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let beside = Beside { sets: &self.sets, only: &self.only };
        let Parsed { plan, mut diagnostics, sources } =
            swarm_plans::parse_beside(&self.plan.to_string_lossy(), &text, beside, &mut |include| {
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
    let sources: Vec<Excerpts> = sources.iter().map(Excerpts::of).collect();
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
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    let is_configs = |error: &&Diagnostic| sources.get(error.source).is_some_and(|file| user_config::is(&file.name));
    let (of_config, of_plan): (Vec<&Diagnostic>, Vec<&Diagnostic>) = errors.partition(is_configs);
    let both = [("the plan", of_plan.len()), ("your configuration", of_config.len())];
    let both = both.into_iter().filter(|(_, errors)| *errors > 0);
    let told: Vec<String> =
        both.map(|(who, errors)| format!("{who} has {}", words::count(errors as u64, "error"))).collect();
    if !told.is_empty() {
        text.push_str(&format!("error: {}\n", told.join(", ")));
    }
    text
}

fn render_one(diagnostic: &Diagnostic, sources: &[Excerpts], renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let own = (diagnostic.source, &diagnostic.span, diagnostic.label.as_deref().map(sanitize::name));
    let related = diagnostic.related.iter().map(|(source, span, words)| (*source, span, Some(sanitize::name(words))));
    let places = std::iter::once(own).chain(related);
    // One snippet a source, in the order in which they are first named.
    let mut snippets: Vec<(usize, Snippet<'_, Annotation<'_>>)> = Vec::new();
    for (at, (source, span, label)) in places.enumerate() {
        let Some(file) = sources.get(source) else { continue };
        let kind = if at == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        let annotation = kind.span(file.at(span.start)..file.at(span.end)).label(label);
        let known = snippets.iter().position(|(known, _)| *known == source);
        let (_, snippet) = match known {
            Some(at) => snippets.remove(at),
            None => (source, Snippet::source(file.text.as_str()).path(file.name.as_str())),
        };
        let place = known.unwrap_or(snippets.len());
        snippets.insert(place, (source, snippet.annotation(annotation)));
    }
    let title = level.primary_title(sanitize::name(&diagnostic.message));
    let mut group = title.elements(snippets.into_iter().map(|(_, snippet)| snippet));
    if let Some(hint) = &diagnostic.hint {
        let lines: Vec<String> = hint.lines().map(sanitize::name).collect();
        group = group.element(Level::HELP.message(lines.join("\n")));
    }
    renderer.render(&[group])
}

/// A source as its lines are shown: passwords are stars, and what acts on a screen, or is not seen there, is spelled out. Whoever wrote
/// the plan may have had the reader's terminal in mind.
struct Excerpts {
    name: String,
    text: String,
    /// Where the text is longer than as it was written: the first byte behind a letter that is spelled out, there and here. In order.
    spelled: Vec<(usize, usize)>,
    /// Bytes of the text as it was written.
    written: usize,
}

impl Excerpts {
    fn of(file: &SourceFile) -> Self {
        // The line that is shown may hold a password; commands of a plan stay as they are written.
        let line = |line: &str| if line.contains("url") { unsaid(line) } else { line.to_owned() };
        let kept: String = file.text.split_inclusive('\n').map(line).collect();
        let (mut text, mut spelled) = (String::with_capacity(kept.len()), Vec::new());
        for (at, c) in kept.char_indices() {
            if sanitize::is_deceptive(c) && !matches!(c, '\n' | '\t') {
                text.extend(c.escape_default());
                spelled.push((at + c.len_utf8(), text.len()));
            } else {
                text.push(c);
            }
        }
        Excerpts { name: sanitize::name(&file.name), text, spelled, written: kept.len() }
    }

    /// Where a place of the text as it was written is shown.
    fn at(&self, written: usize) -> usize {
        let written = written.min(self.written);
        let before = self.spelled.partition_point(|(behind, _)| *behind <= written);
        let (behind, shown) = before.checked_sub(1).map_or((0, 0), |last| self.spelled[last]);
        (shown + written - behind).min(self.text.len())
    }
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
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        format!("line {} is not UTF-8 text", before.iter().filter(|byte| **byte == b'\n').count() + 1)
    })
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
    fn what_a_plan_says_does_not_act_on_the_screen() {
        let text = "version = 1\n[tasks.a]\nrun = 'x \u{9b}2J \u{200b}\u{e0041}ü' # \u{85}\u{feff}\nneds\u{202e} = ['\u{9b}b']\n[tasks.'\u{9d}x']\nrun = ''\n";
        let text = text.replace("neds\u{202e}", "'neds\u{202e}'");
        let Parsed { diagnostics, sources, .. } =
            swarm_plans::parse("d\u{9b}.toml", &text, &[], &mut |_| Err(String::new()));
        let shown = render(&diagnostics, &sources, Style::Plain, 100);
        let acts = |c: &char| sanitize::is_deceptive(*c) && *c != '\n';
        assert_eq!(shown.chars().filter(acts).collect::<String>(), "", "{shown}");
        assert!(shown.contains("d\\u{9b}.toml:4:1"), "{shown}");
        assert!(shown.contains("'neds\\u{202e}' = ['\\u{9b}b']\n  | ^^^^^^^^^^^^^^"), "{shown}");
    }

    #[test]
    fn whose_the_errors_are_is_said() {
        let file = |name: String| SourceFile { name, text: "x\n".to_owned() };
        let config = user_config::path().expect("tests have a home").display().to_string();
        let sources = [file("p.toml".to_owned()), file(config)];
        let said = |of: &[usize]| {
            let at = |source: &usize| Diagnostic::error(swarm_plans::Location::new(*source, 0..1), "wrong");
            let all: Vec<Diagnostic> = of.iter().map(at).collect();
            render(&all, &sources, Style::Plain, 100).lines().last().unwrap_or_default().to_owned()
        };
        assert_eq!(said(&[0, 0]), "error: the plan has 2 errors");
        assert_eq!(said(&[1]), "error: your configuration has 1 error");
        assert_eq!(said(&[0, 1, 1]), "error: the plan has 1 error, your configuration has 2 errors");
        assert_eq!(said(&[]), "");
    }

    #[test]
    fn a_caret_stands_below_what_it_is_about_whatever_stands_before() {
        let text = "ab\u{9b}c\u{200b}d";
        let shown = Excerpts::of(&SourceFile { name: "p".to_owned(), text: text.to_owned() });
        assert_eq!(shown.text, "ab\\u{9b}c\\u{200b}d");
        let word = |from: usize, to: usize| &shown.text[shown.at(from)..shown.at(to)];
        assert_eq!(
            [word(0, 2), word(2, 4), word(4, 5), word(5, 8), word(8, 9)],
            ["ab", "\\u{9b}", "c", "\\u{200b}", "d"]
        );
        assert_eq!((shown.at(99), shown.at(9)), (shown.text.len(), shown.text.len()));
    }

    #[test]
    fn mistakes_show_their_line_a_caret_and_a_hint() {
        let text = "version = 1\n[tasks.a]\nrn = \"true\"\nneeds = [\"b\"]\n";
        let Parsed { diagnostics, sources, .. } =
            swarm_plans::parse("demo.toml", text, &[], &mut |_| Err("no includes here".to_owned()));
        insta::assert_snapshot!(render(&diagnostics, &sources, Style::Plain, 100));
    }
}
