//! Hooks: programs of the plan or the project that are asked before a call and told of what happened. A hook can refuse and
//! say something; it can allow nothing that a rule does not. One that crashes, hangs or speaks nonsense before a call refuses
//! that call. A hook of the plan can also change a call's input, but for what the agent hands over at the end; one of the
//! project cannot, since anybody's change may have named it.
//!
//! A hook of the project whose program lies in the worktree runs while the program is what it was before the work: once
//! somebody changed it, what would run is their own. Then it answers nothing, which refuses a call that it was asked about. The
//! program is the file that the hook names, from the worktree's root, from a folder that it enters, as an absolute path or as a
//! module of Python; a hook whose program only shows when it runs does not run. What a program reads in turn is not looked at.
//!
//! A hook gets one JSON object on its standard input (`hook_event_name` and what belongs to the event). It answers by its
//! exit status (0: go on, 2: no, with the reason on standard error) or by a JSON object on standard output. Reading an
//! answer is pure ([`read`]); running hooks is [`Hooks`].

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use swarm_protocol::toolset::{HookEvent, HookSpec, ProjectProgram};

use super::beneath;
use super::mcp::names;
use super::programs::{self, End, Said};
use super::setting::Setting;
use super::shell;
use super::shell::files::Program;
use super::tools::tool::{Input, Purpose};
use super::tools::toolbox::fits;
use super::tools::{ToolResult, bounded};

/// The longest reason or context that a hook adds, in bytes.
const WORDS_BYTES_MAX: usize = 8 << 10;
/// The longest result that a hook is told, in bytes.
const RESULT_BYTES_MAX: usize = 64 << 10;
/// How often each hook is asked about one call while others change its input.
const ROUNDS_MAX: usize = 4;
/// The longest program of a project's hook, in bytes.
const PROGRAM_BYTES_MAX: u64 = 4 << 20;

/// What hooks say to an event, all together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// No, and why: a call is not run, a result is objected to, an end is none.
    pub refused: Option<String>,
    /// A person has to say; why.
    pub asks: Option<String>,
    /// The call's input instead of the model's.
    pub input: Option<Input>,
    /// For the model.
    pub context: Vec<String>,
    /// For people.
    pub messages: Vec<String>,
    /// The whole conversation is to end; why.
    pub stop: Option<String>,
}

impl Verdict {
    /// Takes what the next hook said.
    fn join(&mut self, next: Verdict) {
        self.refused = self.refused.take().or(next.refused);
        self.asks = self.asks.take().or(next.asks);
        self.input = next.input.or(self.input.take());
        self.context.extend(next.context);
        self.messages.extend(next.messages);
        self.stop = self.stop.take().or(next.stop);
    }
}

/// An answer in JSON. What is not known here is passed over: such hooks are written for several agents.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    r#continue: Option<bool>,
    stop_reason: Option<String>,
    system_message: Option<String>,
    decision: Option<String>,
    reason: Option<String>,
    permission_decision: Option<String>,
    hook_specific_output: Option<Specific>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Specific {
    additional_context: Option<String>,
    permission_decision: Option<String>,
    permission_decision_reason: Option<String>,
    updated_input: Option<Map<String, Value>>,
}

/// What one hook said.
pub fn read(event: HookEvent, said: &Said) -> Verdict {
    let no = |why: String| Verdict { refused: Some(bounded(&why, WORDS_BYTES_MAX)), ..Verdict::default() };
    let failed = |why: String| unanswered(event, &why);
    match said.end {
        End::Exited(0) => {}
        End::Exited(2) => {
            let words = said.stderr.trim();
            return no(if words.is_empty() { "a hook refuses it".to_owned() } else { words.to_owned() });
        }
        End::Exited(code) => return failed(format!("failed with status {code}: {}", said.stderr.trim())),
        End::Killed => return failed("crashed".to_owned()),
        End::TimedOut => return failed("did not answer in time".to_owned()),
        End::NotStarted => return failed(format!("could not be started: {}", said.stderr.trim())),
    }
    if event == HookEvent::PreToolUse && said.is_cut {
        return failed("printed more than is read: let it print its JSON object and nothing else".to_owned());
    }
    // UTF-16 and its kind, in which nobody would find an answer.
    if event == HookEvent::PreToolUse && said.stdout.contains('\0') {
        return failed("answered in bytes that are no text: let it print UTF-8".to_owned());
    }
    let text = said.stdout.trim_start_matches('\u{feff}').trim();
    if !text.starts_with('{') {
        if event == HookEvent::PreToolUse && holds_answer(text) {
            return failed("answered among other words: let it print its JSON object and nothing else".to_owned());
        }
        // Plain words at the beginning of a session are context; elsewhere they are talk.
        let heard = !text.is_empty() && event == HookEvent::SessionStart;
        let context = if heard { vec![bounded(text, WORDS_BYTES_MAX)] } else { vec![] };
        return Verdict { context, ..Verdict::default() };
    }
    match serde_json::from_str::<Answer>(text) {
        Ok(answer) => answered(event, answer),
        Err(error) => failed(format!("answered what is no answer: {error}")),
    }
}

/// Words of an answer, any of which may mean no.
const ANSWERS: [&str; 5] =
    ["\"decision\"", "\"permissionDecision\"", "\"hookSpecificOutput\"", "\"continue\"", "\"stopReason\""];

/// Whether what is no answer as a whole has one in it, behind talk or in a list: nobody can tell that it is a yes.
fn holds_answer(text: &str) -> bool {
    text.contains('{') && ANSWERS.iter().any(|word| text.contains(word))
}

/// A hook that gave no answer: whoever set it up wanted calls to pass it.
fn unanswered(event: HookEvent, why: &str) -> Verdict {
    match event {
        HookEvent::PreToolUse => Verdict {
            refused: Some(bounded(&format!("a hook before it {why}"), WORDS_BYTES_MAX)),
            ..Verdict::default()
        },
        _ => Verdict { messages: vec![format!("a {} hook {why}", event.name())], ..Verdict::default() },
    }
}

/// Whether a program still is a file of the worktree that holds what it held.
fn holds(root: &Path, program: &ProjectProgram) -> bool {
    let read = || -> std::io::Result<blake3::Hash> {
        let root = rustix::fs::openat(CWD, root, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let file =
            File::from(beneath::open(&root, &program.path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW)?);
        let mut hasher = blake3::Hasher::new();
        let length = std::io::copy(&mut file.take(PROGRAM_BYTES_MAX), &mut hasher)?;
        match length < PROGRAM_BYTES_MAX {
            true => Ok(hasher.finalize()),
            false => Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge)),
        }
    };
    read().is_ok_and(|digest| digest.to_hex().as_str() == program.digest)
}

/// A place as a path below a folder, where it lies below it.
fn below(root: &Path, place: &str) -> Option<String> {
    let place = match place.strip_prefix('/') {
        Some(_) => Path::new(place).strip_prefix(root).ok()?,
        None => Path::new(place),
    };
    let mut parts: Vec<&str> = vec![];
    for part in place.to_str()?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn answered(event: HookEvent, answer: Answer) -> Verdict {
    let specific = answer.hook_specific_output.unwrap_or_default();
    let words = |text: Option<String>, else_text: &str| {
        let text = text.filter(|text| !text.trim().is_empty());
        bounded(&text.unwrap_or_else(|| else_text.to_owned()), WORDS_BYTES_MAX)
    };
    let mut verdict = Verdict {
        input: specific.updated_input.filter(|_| event == HookEvent::PreToolUse),
        context: specific.additional_context.into_iter().map(|text| bounded(&text, WORDS_BYTES_MAX)).collect(),
        messages: answer.system_message.into_iter().map(|text| bounded(&text, WORDS_BYTES_MAX)).collect(),
        ..Verdict::default()
    };
    if answer.r#continue == Some(false) {
        let why = words(answer.stop_reason, "a hook ends it");
        verdict.refused = (event == HookEvent::PreToolUse).then(|| why.clone());
        verdict.stop = Some(why);
    }
    // Where it belongs, or on top.
    let asked = answer.permission_decision.filter(|_| event == HookEvent::PreToolUse);
    match answer.decision.as_deref() {
        Some("block" | "deny") => verdict.refused = Some(words(answer.reason, "a hook refuses it")),
        None | Some("approve" | "allow") => {}
        Some(other) if event == HookEvent::PreToolUse => {
            verdict.refused = Some(format!("a hook before it answered `{}`", bounded(other, 100)));
        }
        Some(_) => {}
    }
    if event == HookEvent::PreToolUse {
        let reason = specific.permission_decision_reason;
        let on_top = asked.filter(|_| verdict.refused.is_none());
        match specific.permission_decision.or(on_top).as_deref() {
            // Rules decide; a hook's yes adds nothing.
            None | Some("allow") => {}
            Some("ask") => verdict.asks = Some(words(reason, "a hook wants it asked")),
            Some("deny") => verdict.refused = Some(words(reason, "a hook refuses it")),
            Some(other) => verdict.refused = Some(format!("a hook before it answered `{}`", bounded(other, 100))),
        }
    }
    verdict
}

/// Whether a matcher means a tool.
fn is_for(matcher: Option<&str>, tool: &str) -> bool {
    matcher
        .is_none_or(|matcher| matcher.split('|').map(str::trim).any(|one| fits(one, tool) || names::means(one, tool)))
}

/// Runs the hooks of one agent, in their order.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    setting: Setting,
    of_plan: Vec<HookSpec>,
    of_project: Vec<HookSpec>,
    /// What the programs of the project's hooks held before the work.
    programs: Vec<ProjectProgram>,
}

/// What hooks said, all together, with the input that they left.
fn together(heard: Vec<Option<(Verdict, Input)>>, input: Option<Input>) -> Verdict {
    let mut all = Verdict::default();
    heard.into_iter().flatten().for_each(|(said, _)| all.join(said));
    Verdict { input, ..all }
}

/// Who set a hook up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Plan,
    Project,
}

impl Hooks {
    /// Hooks that run where an agent works: first those of the plan.
    pub fn new(setting: Setting, of_plan: Vec<HookSpec>, of_project: Vec<HookSpec>) -> Hooks {
        Hooks { setting, of_plan, of_project, programs: vec![] }
    }

    /// The same, where the project's hooks run only programs that hold what they held before the work.
    #[must_use]
    pub fn holding(self, programs: &[ProjectProgram]) -> Hooks {
        Hooks { programs: programs.to_vec(), ..self }
    }

    /// Before a call: each hook sees the input as the one before left it, and once more where a later one changed it; the first
    /// no is the last word. A hook is not asked about what it made itself.
    pub fn before_call(&self, tool: &str, purpose: Purpose, input: &Input) -> Verdict {
        let hooks: Vec<_> = self.of(HookEvent::PreToolUse, Some(tool)).collect();
        let may_change = |origin| origin == Origin::Plan && purpose == Purpose::Work;
        let mut now = input.clone();
        // What each hook said last, and the input that it left.
        let mut heard: Vec<Option<(Verdict, Input)>> = vec![None; hooks.len()];
        for _ in 0..ROUNDS_MAX {
            for (&(origin, spec), heard) in hooks.iter().zip(&mut heard) {
                if heard.as_ref().is_some_and(|(_, left)| *left == now) {
                    continue;
                }
                let mut said = self.run(origin, spec, json!({"tool_name": tool, "tool_input": now}));
                match said.input.take() {
                    Some(_) if !may_change(origin) => {
                        said.messages.push(format!("a hook wanted to change the input of `{tool}`, which it may not"));
                    }
                    Some(changed) => now = changed,
                    None => {}
                }
                let is_refused = said.refused.is_some();
                *heard = Some((said, now.clone()));
                if is_refused {
                    break;
                }
            }
            let is_refused = heard.iter().flatten().any(|(said, _)| said.refused.is_some());
            if is_refused || heard.iter().all(|heard| heard.as_ref().is_some_and(|(_, left)| *left == now)) {
                return together(heard, (now != *input).then_some(now));
            }
        }
        let why = format!("hooks changed the input of `{tool}` {ROUNDS_MAX} times over and did not come to one");
        Verdict { refused: Some(why), ..together(heard, None) }
    }

    /// After a call, with what it gave.
    pub fn after_call(&self, tool: &str, input: &Input, result: &ToolResult) -> Verdict {
        let (event, told) = match result {
            Ok(text) => (HookEvent::PostToolUse, json!({"tool_output": bounded(text, RESULT_BYTES_MAX)})),
            Err(error) => (HookEvent::PostToolUseFailure, json!({"tool_error": bounded(&error.0, RESULT_BYTES_MAX)})),
        };
        let mut about = json!({"tool_name": tool, "tool_input": input, "tool_result_is_error": result.is_err()});
        if let (Value::Object(about), Value::Object(told)) = (&mut about, told) {
            about.extend(told);
        }
        self.all(event, Some(tool), &about)
    }

    /// Before the first turn; `source` is `startup` or `resume`.
    pub fn session_start(&self, source: &str) -> Verdict {
        self.all(HookEvent::SessionStart, None, &json!({"source": source}))
    }

    /// After the last turn.
    pub fn session_end(&self, reason: &str) -> Verdict {
        self.all(HookEvent::SessionEnd, None, &json!({"reason": reason}))
    }

    /// When the model says that it is done. `again` tells a hook that it has sent the model on before: one that always does
    /// would never let it end.
    pub fn stop(&self, last_words: &str, again: bool) -> Verdict {
        let about = json!({"last_message": bounded(last_words, RESULT_BYTES_MAX), "stop_hook_active": again});
        self.all(HookEvent::Stop, None, &about)
    }

    /// Before a long conversation is summed up.
    pub fn before_compaction(&self) -> Verdict {
        self.all(HookEvent::PreCompact, None, &json!({"trigger": "auto"}))
    }

    fn all(&self, event: HookEvent, tool: Option<&str>, about: &Value) -> Verdict {
        let mut all = Verdict::default();
        for (origin, spec) in self.of(event, tool) {
            all.join(self.run(origin, spec, about.clone()));
        }
        all
    }

    fn of(&self, event: HookEvent, tool: Option<&str>) -> impl Iterator<Item = (Origin, &HookSpec)> {
        let of_plan = self.of_plan.iter().map(|spec| (Origin::Plan, spec));
        let all = of_plan.chain(self.of_project.iter().map(|spec| (Origin::Project, spec)));
        let fits = move |spec: &HookSpec| tool.is_none_or(|tool| is_for(spec.matcher.as_deref(), tool));
        all.filter(move |(_, spec)| spec.event == event && fits(spec))
    }

    /// Why a hook of the project does not run: a program of it is not what it was before the work, a file that held something
    /// else or none; or nobody can tell which file that is.
    fn changed(&self, spec: &HookSpec) -> Option<String> {
        let is_other = |path: &&String| match self.programs.iter().find(|program| program.path == **path) {
            Some(program) => !holds(&self.setting.root, program),
            None => std::fs::symlink_metadata(self.setting.root.join(path)).is_ok_and(|found| !found.is_dir()),
        };
        let why = |program: Program| match program {
            Program::Unknown(written) => Some(format!(
                "which file of the worktree its program `{written}` is only shows when it runs: name it from the worktree's root, \
                 without variables"
            )),
            Program::OneOf(places) => {
                let below: Vec<String> = places.iter().filter_map(|place| below(&self.setting.root, place)).collect();
                let changed = below.iter().find(is_other)?;
                Some(format!(
                    "its program {changed} is not the plain file that it was before the work: give it back what it held"
                ))
            }
        };
        shell::files::of(&shell::read(&spec.run)).into_iter().find_map(why)
    }

    fn run(&self, origin: Origin, spec: &HookSpec, mut about: Value) -> Verdict {
        let changed = match origin {
            Origin::Plan => None,
            Origin::Project => self.changed(spec),
        };
        if let Some(why) = changed {
            return unanswered(spec.event, &format!("of the project does not run: {why}"));
        }
        if let Value::Object(about) = &mut about {
            about.insert("hook_event_name".to_owned(), spec.event.name().into());
            about.insert("cwd".to_owned(), self.setting.root.display().to_string().into());
        }
        let mut command = self.setting.command("/bin/sh");
        command.args(["-c", &spec.run]).env("HOOK_EVENT", spec.event.name());
        if let Some(tool) = about["tool_name"].as_str() {
            command.env("HOOK_TOOL_NAME", tool);
        }
        let said = programs::ask(command, about.to_string().as_bytes(), Duration::from_millis(spec.timeout_ms));
        read(spec.event, &said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tools::Refused;

    fn said(end: End, stdout: &str, stderr: &str) -> Said {
        Said { end, stdout: stdout.to_owned(), is_cut: false, stderr: stderr.to_owned() }
    }

    fn before(end: End, stdout: &str, stderr: &str) -> Verdict {
        read(HookEvent::PreToolUse, &said(end, stdout, stderr))
    }

    #[test]
    fn only_a_clean_answer_lets_a_call_pass() {
        for stdout in ["", "fine", "{}", r#"{"decision":"approve"}"#, r#"{"somethingNew":1}"#] {
            assert_eq!(before(End::Exited(0), stdout, "").refused, None, "{stdout}");
        }
        let rows = [
            (End::Exited(2), "", "not here", "not here"),
            (End::Exited(1), "", "oops", "a hook before it failed with status 1: oops"),
            (End::Killed, "", "", "a hook before it crashed"),
            (End::TimedOut, "{}", "", "a hook before it did not answer in time"),
            (End::Exited(0), r#"{"decision":"block","reason":"no"}"#, "", "no"),
            (End::Exited(0), r#"{"decision":"maybe"}"#, "", "a hook before it answered `maybe`"),
            (End::Exited(0), r#"{"continue":false,"stopReason":"enough"}"#, "", "enough"),
            (End::Exited(0), r#"{"hookSpecificOutput":{"permissionDecision":"deny"}}"#, "", "a hook refuses it"),
            (
                End::Exited(0),
                r#"{"hookSpecificOutput":{"permissionDecision":"x"}}"#,
                "",
                "a hook before it answered `x`",
            ),
        ];
        for (end, stdout, stderr, expected) in rows {
            assert_eq!(before(end, stdout, stderr).refused.as_deref(), Some(expected));
        }
        for talk in ["checked\n{}", "\u{feff}{}", "[{}]", "{}\nbye"] {
            let stdout = talk.replace("{}", r#"{"hookSpecificOutput":{"permissionDecision":"deny"}}"#);
            assert!(before(End::Exited(0), &stdout, "").refused.is_some(), "{stdout}");
        }
        for (on_top, refused) in [("deny", true), ("perhaps", true), ("allow", false)] {
            let stdout = format!(r#"{{"permissionDecision":"{on_top}"}}"#);
            assert_eq!(before(End::Exited(0), &stdout, "").refused.is_some(), refused, "{stdout}");
        }
        let utf_16: String = r#"{"decision":"block"}"#.chars().flat_map(|letter| [letter, '\0']).collect();
        assert!(before(End::Exited(0), &utf_16, "").refused.is_some());
        let cut = |event| read(event, &Said { is_cut: true, ..said(End::Exited(0), "x", "") });
        assert!(cut(HookEvent::PreToolUse).refused.is_some() && cut(HookEvent::PostToolUse).refused.is_none());
        for stdout in ["checked {a, b}", "[1, 2]", "all is well; continue"] {
            assert_eq!(before(End::Exited(0), stdout, "").refused, None, "{stdout}");
        }
        for stdout in ["{\"decision\":", "{\"hookSpecificOutput\":{\"updatedInput\":7}}"] {
            assert!(before(End::Exited(0), stdout, "").refused.is_some(), "{stdout}");
        }
    }

    #[test]
    fn a_hook_that_asks_changes_or_adds_is_heard() {
        let text = r#"{"systemMessage":"m","hookSpecificOutput":{"permissionDecision":"ask",
            "permissionDecisionReason":"why","updatedInput":{"a":1},"additionalContext":"c"}}"#;
        let verdict = before(End::Exited(0), text, "");
        assert_eq!((verdict.refused, verdict.asks.as_deref()), (None, Some("why")));
        assert_eq!(verdict.input.unwrap()["a"], 1);
        assert_eq!((verdict.context, verdict.messages), (vec!["c".to_owned()], vec!["m".to_owned()]));
    }

    #[test]
    fn after_a_call_a_failing_hook_is_a_message_and_a_refusal_an_objection() {
        let after = |end, stdout: &str| read(HookEvent::PostToolUse, &said(end, stdout, "e"));
        let failed = after(End::Exited(1), "");
        assert_eq!((failed.refused, failed.messages.len()), (None, 1));
        assert_eq!(after(End::Exited(2), "").refused.as_deref(), Some("e"));
        let changed = after(End::Exited(0), r#"{"hookSpecificOutput":{"updatedInput":{"a":1}}}"#);
        assert_eq!(changed.input, None, "it is too late for another input");
        let plain = |event| read(event, &said(End::Exited(0), "words", "")).context;
        assert_eq!((plain(HookEvent::SessionStart).len(), plain(HookEvent::Stop).len()), (1, 0));
    }

    fn hooks(specs: &[(HookEvent, Option<&str>, &str)]) -> (tempfile::TempDir, Hooks) {
        let folder = tempfile::tempdir().unwrap();
        let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
        let setting = Setting { root: folder.path().to_owned(), scratch: folder.path().to_owned(), env };
        let spec = |(event, matcher, run): &(HookEvent, Option<&str>, &str)| HookSpec {
            event: *event,
            matcher: matcher.map(str::to_owned),
            run: (*run).to_owned(),
            timeout_ms: 20_000,
        };
        (folder, Hooks::new(setting, specs.iter().map(spec).collect(), vec![]))
    }

    #[test]
    fn hooks_see_the_call_and_each_others_changes() {
        let change = r#"grep -q '"n":1' && echo '{"hookSpecificOutput":{"updatedInput":{"n":2}}}'"#;
        let (_folder, hooks) = hooks(&[
            (HookEvent::PreToolUse, Some("read|mcp__*"), change),
            (HookEvent::PreToolUse, None, r#"grep -q '"n":2' || exit 2"#),
            (HookEvent::PreToolUse, Some("bash"), "exit 2"),
        ]);
        let input = json!({"n": 1}).as_object().unwrap().clone();
        let verdict = hooks.before_call("mcp__x__y", Purpose::Work, &input);
        assert_eq!((verdict.refused, verdict.input.unwrap()["n"].clone()), (None, json!(2)));
        assert_eq!(hooks.before_call("edit", Purpose::Work, &input).refused.as_deref(), Some("a hook refuses it"));
    }

    #[test]
    fn a_hook_of_the_project_refuses_and_asks_and_changes_nothing() {
        let change = r#"echo '{"hookSpecificOutput":{"permissionDecision":"ask","updatedInput":{"n":2}}}'"#;
        let (_folder, of_plan) =
            hooks(&[(HookEvent::PreToolUse, Some("edit"), change), (HookEvent::PreToolUse, Some("bash"), "exit 2")]);
        let of_project = Hooks::new(of_plan.setting.clone(), vec![], of_plan.of_plan.clone());
        let verdict = of_project.before_call("edit", Purpose::Work, &Input::new());
        assert_eq!((verdict.input, verdict.messages.len()), (None, 1));
        assert!(
            verdict.asks.is_some() && of_project.before_call("bash", Purpose::Work, &Input::new()).refused.is_some()
        );
        assert!(of_plan.before_call("edit", Purpose::Work, &Input::new()).input.is_some());
        assert_eq!(of_plan.before_call("edit", Purpose::HandOver, &Input::new()).input, None);
    }

    #[test]
    fn a_program_of_the_project_runs_while_it_is_what_it_was() {
        let (folder, made) = hooks(&[
            (HookEvent::PreToolUse, None, "sh ./ci/check"),
            (HookEvent::Stop, None, "ci/check"),
            (HookEvent::PreToolUse, None, "sh other"),
        ]);
        std::fs::create_dir(folder.path().join("ci")).unwrap();
        let write = |path: &str, text: &str| std::fs::write(folder.path().join(path), text).unwrap();
        let text = "echo 'not here' >&2; exit 2";
        write("ci/check", text);
        write("other", "exit 0");
        let of = |path: &str, text: &str| ProjectProgram {
            path: path.to_owned(),
            digest: blake3::hash(text.as_bytes()).to_hex().to_string(),
        };
        let programs = [of("ci/check", text), of("other", "exit 0")];
        let of_project = Hooks::new(made.setting.clone(), vec![], made.of_plan.clone()).holding(&programs);
        let said = |hooks: &Hooks| hooks.before_call("edit", Purpose::Work, &Input::new()).refused;
        assert_eq!(said(&of_project).as_deref(), Some("not here"));
        let why = "a hook before it of the project does not run: its program ci/check is not the plain file that it was before the \
                   work: give it back what it held";
        write("ci/check", "touch ran");
        assert_eq!(said(&of_project).as_deref(), Some(why));
        assert_eq!((of_project.stop("x", false).refused, of_project.stop("x", false).messages.len()), (None, 1));
        assert!(!folder.path().join("ran").exists());
        std::fs::remove_file(folder.path().join("ci/check")).unwrap();
        assert_eq!(said(&of_project).as_deref(), Some(why), "gone is changed, too");
        std::os::unix::fs::symlink("../other", folder.path().join("ci/check")).unwrap();
        assert_eq!(said(&of_project).as_deref(), Some(why));
        let unknown = Hooks::new(made.setting.clone(), vec![], made.of_plan.clone());
        assert!(
            said(&unknown).unwrap().contains("ci/check is not the plain file"),
            "one that was not there is not run either"
        );
        write("other", text);
        std::fs::remove_file(folder.path().join("ci/check")).unwrap();
        write("ci/check", text);
        assert_eq!(said(&made).as_deref(), Some("not here"), "what the plan set up is the plan's matter");
    }

    #[test]
    fn a_program_of_the_project_is_known_by_any_name() {
        let (folder, made) = hooks(&[]);
        std::fs::create_dir(folder.path().join("ci")).unwrap();
        let write = |path: &str, text: &str| std::fs::write(folder.path().join(path), text).unwrap();
        let digest = |text: &str| blake3::hash(text.as_bytes()).to_hex().to_string();
        let programs =
            ["ci/check", "ci/check.py"].map(|path| ProjectProgram { path: path.to_owned(), digest: digest("exit 0") });
        let absolute = format!("sh {}/ci/check", folder.path().display());
        for run in [
            "cd ci && sh check",
            "cd ./ci; sh ../ci/check",
            &absolute,
            "(cd ci; ./check)",
            "true; python -m ci.check",
            "d=ci; sh \"$d/check\"",
        ] {
            write("ci/check", "exit 0");
            write("ci/check.py", "exit 0");
            let spec =
                HookSpec { event: HookEvent::PreToolUse, matcher: None, run: run.to_owned(), timeout_ms: 20_000 };
            let hooks = Hooks::new(made.setting.clone(), vec![], vec![spec.clone()]).holding(&programs);
            assert_eq!(hooks.changed(&spec), None, "{run}");
            write("ci/check", "touch ran");
            write("ci/check.py", "touch = 1");
            let said = hooks.before_call("edit", Purpose::Work, &Input::new()).refused.unwrap_or_default();
            assert!(said.contains("is not the plain file that it was before the work"), "{run}: {said}");
        }
        for run in ["sh \"$x\"", "cd \"$x\" && ./check", "cd - && sh check"] {
            let spec =
                HookSpec { event: HookEvent::PreToolUse, matcher: None, run: run.to_owned(), timeout_ms: 20_000 };
            let hooks = Hooks::new(made.setting.clone(), vec![], vec![spec]).holding(&programs);
            let said = hooks.before_call("edit", Purpose::Work, &Input::new()).refused.unwrap_or_default();
            assert!(said.contains("only shows when it runs: name it from the worktree's root"), "{run}: {said}");
        }
    }

    #[test]
    fn what_a_hook_changes_is_asked_about_again() {
        let no_bad = "grep -q BAD && { echo bad >&2; exit 2; }; exit 0";
        let change = |to: &str| format!(r#"echo '{{"hookSpecificOutput":{{"updatedInput":{{"text":"{to}"}}}}}}'"#);
        let said = |runs: &[&str]| {
            let all: Vec<_> = runs.iter().map(|run| (HookEvent::PreToolUse, None, *run)).collect();
            let (folder, hooks) = hooks(&all);
            (hooks.before_call("write", Purpose::Work, &Input::new()), folder)
        };
        let (bad, good) = (change("BAD"), change("good"));
        assert_eq!(said(&[no_bad, &bad]).0.refused.as_deref(), Some("bad"), "the first hears of the change");
        let (verdict, folder) = said(&["echo >> asked", &good]);
        assert_eq!((verdict.refused, verdict.input.unwrap()["text"].as_str()), (None, Some("good")));
        assert_eq!(std::fs::read_to_string(folder.path().join("asked")).unwrap(), "\n\n");
        let grows = r#"printf x >> n; echo "{\"hookSpecificOutput\":{\"updatedInput\":{\"n\":\"$(cat n)\"}}}""#;
        let (verdict, folder) = said(&[grows]);
        assert_eq!((verdict.refused, verdict.input.unwrap()["n"].as_str()), (None, Some("x")), "its own is its own");
        assert_eq!(std::fs::read_to_string(folder.path().join("n")).unwrap(), "x");
        let why = "hooks changed the input of `write` 4 times over and did not come to one";
        assert_eq!(said(&[grows, &good, grows]).0.refused.as_deref(), Some(why));
    }

    #[test]
    fn results_and_ends_are_told() {
        let (folder, hooks) = hooks(&[
            (HookEvent::PostToolUse, None, "cat > ok"),
            (HookEvent::PostToolUseFailure, None, "cat > failed"),
            (HookEvent::Stop, None, r#"grep -q '"stop_hook_active":true' || { echo more >&2; exit 2; }"#),
        ]);
        hooks.after_call("read", &Input::new(), &Ok("text".to_owned()));
        hooks.after_call("read", &Input::new(), &Err(Refused::new("gone")));
        let told = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(
            told("ok").contains(r#""tool_output":"text""#) && told("ok").contains(r#""hook_event_name":"PostToolUse""#)
        );
        assert!(told("failed").contains(r#""tool_error":"gone""#));
        assert_eq!(hooks.stop("done", false).refused.as_deref(), Some("more"));
        assert_eq!(hooks.stop("done", true).refused, None);
    }
}
