//! The picture on a terminal that moves: a head with counts, the last failure, a line a running task. What is decided
//! scrolls away above it and stays readable afterwards.
//!
//! The picture is made by a pure function and painted in one write, at most once a tick and only when it changed: it
//! neither flickers nor tears, and a thousand tasks a second cost ten pictures. Lines are cut to the terminal's
//! width, never wrapped, because the picture is replaced by moving up as many lines as it has; what scrolls
//! away is broken between words.

use indexmap::IndexMap;
use swarm_plans::InstanceId;

use super::lines::{NeverStarted, NewestRed, Talk, WaitsForNeeds, event_line};
use super::words::{self, Style, Tone};
use super::{AsTyped, Reporter, Sink, sanitize};
use crate::event::{Progress, Recorded, RunEvent};
use crate::journal::RunState;

/// A terminal's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// With more instances than this, only what a person might act on scrolls by; the head counts the rest.
const SMALL_RUN_INSTANCES_MAX: usize = 60;

/// Bytes of a worker's line that are looked at; the rest would not fit on any screen.
const LINE_BYTES_MAX: usize = 1024;

/// Paints the live picture.
pub struct Live {
    sink: Sink,
    style: Style,
    as_typed: AsTyped,
    size: Box<dyn FnMut() -> Size + Send>,
    picture: Picture,
    /// Lines of the picture on the screen now.
    painted: Vec<String>,
    /// Lines that wait to scroll by above the next picture.
    scrolling: Vec<String>,
    never_started: NeverStarted,
    waits_for_needs: WaitsForNeeds,
    red: NewestRed,
}

/// What the picture shows beside the run's state.
#[derive(Debug, Default)]
struct Picture {
    /// What the run as a whole is doing, when no task is.
    phase: Option<String>,
    running: IndexMap<InstanceId, Running>,
    last_failure: Option<String>,
}

#[derive(Debug)]
struct Running {
    since_ms: u64,
    attempt: u32,
    /// `work`, `check 1/2` …; empty until the first word.
    phase: String,
    /// The last line it printed, harmless.
    line: String,
}

impl Live {
    /// Will paint on the terminal behind `out`; `size` asks that terminal for its size, again and again.
    pub fn new(out: Box<dyn std::io::Write + Send>, style: Style, size: impl FnMut() -> Size + Send + 'static) -> Self {
        Live {
            sink: Sink::new(out),
            style,
            as_typed: Box::new(str::to_owned),
            size: Box::new(size),
            picture: Picture::default(),
            painted: Vec::new(),
            scrolling: Vec::new(),
            never_started: NeverStarted::default(),
            waits_for_needs: WaitsForNeeds::default(),
            red: NewestRed::default(),
        }
    }

    /// The same, for a person who has to type more in front of commands than a text says.
    pub fn as_typed(self, as_typed: AsTyped) -> Self {
        Live { as_typed, ..self }
    }

    /// Lets a line scroll by.
    fn scroll(&mut self, line: Option<String>) {
        let Some(line) = line.map(|line| (self.as_typed)(&line)) else { return };
        self.scrolling.push(words::wrap(&line, usize::from((self.size)().columns).max(20) - 1));
    }

    /// Replaces the picture on the screen, with one write.
    fn paint(&mut self, picture: Vec<String>) {
        if picture == self.painted && self.scrolling.is_empty() {
            return;
        }
        // Synchronized update: terminals that know it show all or nothing; others ignore it.
        let mut text = String::from("\u{1b}[?2026h");
        if !self.painted.is_empty() {
            text.push_str(&format!("\u{1b}[{}A\r", self.painted.len()));
        }
        for line in self.scrolling.drain(..).flat_map(|lines| lines.lines().map(str::to_owned).collect::<Vec<_>>()) {
            text.push_str(&format!("{line}\u{1b}[K\n"));
        }
        for line in &picture {
            text.push_str(&format!("{line}\u{1b}[K\n"));
        }
        text.push_str("\u{1b}[J\u{1b}[?2026l");
        self.sink.write(&text);
        self.painted = picture;
    }
}

impl Reporter for Live {
    fn event(&mut self, recorded: &Recorded, state: &RunState) {
        let talk = if state.instances.len() > SMALL_RUN_INSTANCES_MAX { Talk::Trouble } else { Talk::All };
        let again = self.red.said_again(recorded);
        let line = event_line(again.as_ref().unwrap_or(recorded), state, self.style, talk);
        if self.never_started.holds(&recorded.event, state, line.as_deref()) {
            return;
        }
        let held = self.never_started.said(self.style);
        self.scroll(held);
        let waits = self.waits_for_needs.said_at(&recorded.event);
        self.scroll(waits);
        let line = self.waits_for_needs.unless_held(&recorded.event, line);
        match &recorded.event {
            RunEvent::InstancesAdded { .. }
            | RunEvent::Reopened { .. }
            | RunEvent::Requeued { .. }
            | RunEvent::NeedsSettled { .. }
            | RunEvent::Retried { .. } => return,
            RunEvent::ItemsFound { items, .. } if !items.is_empty() => return,
            RunEvent::AttemptStarted { instance, attempt, .. } => {
                self.picture.phase = None;
                let running =
                    Running { since_ms: recorded.at_ms, attempt: attempt.0, phase: String::new(), line: String::new() };
                self.picture.running.insert(instance.clone(), running);
            }
            RunEvent::AttemptFinished { instance, .. } => {
                self.picture.running.shift_remove(instance);
            }
            RunEvent::InstanceFinished { instance, result, .. } if words::mark(*result).1 == Tone::Bad => {
                if let Some(entry) = state.instances.get(instance) {
                    let said = super::lines::result_text(state, *result, entry.cause(), entry);
                    self.picture.last_failure = Some(format!("{}: {said}", words::instance(instance)));
                }
            }
            RunEvent::ModelWaits { instance, wait, .. } => {
                if let Some(running) = self.picture.running.get_mut(instance) {
                    running.line = words::waits(wait);
                }
                return;
            }
            RunEvent::RunFinished { .. } => {
                self.paint(Vec::new());
                return;
            }
            RunEvent::RunStarted { .. }
            | RunEvent::Noted { .. }
            | RunEvent::ItemsFound { .. }
            | RunEvent::Reused { .. }
            | RunEvent::RunResumed { .. }
            | RunEvent::InstanceFinished { .. }
            | RunEvent::ModelAsked { .. }
            | RunEvent::ModelDown { .. }
            | RunEvent::ModelCalled { .. }
            | RunEvent::Evicted { .. }
            | RunEvent::Landing { .. }
            | RunEvent::Merged { .. } => {}
            RunEvent::Verified { .. } => self.picture.phase = None,
        }
        self.scroll(line);
    }

    fn progress(&mut self, progress: &Progress) {
        match progress {
            Progress::Phase { instance: None, phase } => self.picture.phase = Some(sanitize::name(phase)),
            Progress::Phase { instance: Some(instance), phase } => {
                if let Some(running) = self.picture.running.get_mut(instance) {
                    running.phase = sanitize::name(phase);
                    running.line.clear();
                }
            }
            Progress::Line { instance, line } => {
                if let Some(running) = self.picture.running.get_mut(instance) {
                    let shown = sanitize::line(&line[..line.len().min(LINE_BYTES_MAX)]);
                    if !shown.trim().is_empty() {
                        running.line = shown;
                    }
                }
            }
        }
    }

    fn tick(&mut self, now_ms: u64, state: &RunState) {
        if state.finished.is_some() {
            return;
        }
        let held = self.never_started.said(self.style);
        self.scroll(held);
        let waits = self.waits_for_needs.said();
        self.scroll(waits);
        let size = (self.size)();
        let picture = self.picture.lines(state, now_ms, size, self.style);
        self.paint(picture);
    }
}

impl Picture {
    /// The picture's lines, each narrower than the terminal; fewer than the terminal has.
    fn lines(&self, state: &RunState, now_ms: u64, size: Size, style: Style) -> Vec<String> {
        let columns = usize::from(size.columns).max(20) - 1;
        let mut lines = vec![self.head(state, now_ms, style)];
        if let Some(failure) = &self.last_failure {
            lines.push(format!("  {} {failure}", style.paint(Tone::Bad, "last failure:")));
        }
        if let Some(phase) = &self.phase {
            lines.push(format!("  {phase} …"));
        }
        let room = usize::from(size.rows).saturating_sub(lines.len() + 2).max(1);
        let shown = if self.running.len() > room { room - 1 } else { room };
        let names: Vec<String> = self.running.keys().take(shown).map(words::instance).collect();
        let name_columns = names.iter().map(|name| words::width(name)).max().unwrap_or(0).min(columns / 2);
        for (name, running) in names.iter().zip(self.running.values()) {
            let name = words::pad(&words::elide(name, name_columns), name_columns);
            let spent = words::duration(round(now_ms.saturating_sub(running.since_ms)));
            lines.push(format!("  {name}  {spent:>7}  {}", running.said(style)));
        }
        if self.running.len() > shown {
            lines.push(style.paint(Tone::Quiet, &format!("  … and {} more", self.running.len() - shown)));
        }
        lines.iter().map(|line| words::fit(line.trim_end(), columns)).collect()
    }

    fn head(&self, state: &RunState, now_ms: u64, style: Style) -> String {
        let tally = state.tally;
        let run = state.run.as_ref().map_or("", |run| run.0.as_str());
        let mut parts = vec![format!("{}/{} done", tally.finished, tally.instances)];
        let mut add = |n: u64, word: &str, tone: Tone| {
            if n > 0 {
                parts.push(style.paint(tone, &format!("{n} {word}")));
            }
        };
        add(self.running.len() as u64, "running", Tone::Strong);
        add(tally.reused, "cached", Tone::Quiet);
        add(tally.failed, "failed", Tone::Bad);
        add(tally.blocked, "blocked", Tone::Quiet);
        add(tally.landed, "landed", Tone::Good);
        add(tally.parked, "parked", Tone::Warn);
        let spent = words::duration(state.lived_until(now_ms) / 1_000 * 1_000);
        let bar = style.paint(Tone::Good, &bar(tally.finished, tally.instances));
        format!("{} {bar} {} · {spent}", style.paint(Tone::Strong, run), parts.join(" · "))
    }
}

impl Running {
    fn said(&self, style: Style) -> String {
        let attempt = if self.attempt > 1 { format!("attempt {} ", self.attempt) } else { String::new() };
        let phase = if self.phase.is_empty() { String::new() } else { format!("{} ", self.phase) };
        format!("{attempt}{phase}{}", style.paint(Tone::Quiet, &self.line))
    }
}

/// Tenths of a second below a minute: what stands still between two ticks needs no new picture.
fn round(ms: u64) -> u64 {
    ms / 100 * 100
}

/// Ten cells; full only when all is done.
fn bar(done: u64, all: u64) -> String {
    let cells = (done * 10).checked_div(all).unwrap_or(0).min(10) as usize;
    format!("[{}{}]", "#".repeat(cells), "-".repeat(10 - cells))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Reports, Shared, story};

    fn live(out: &Shared, size: Size) -> Reports {
        Reports::new(vec![Box::new(Live::new(Box::new(out.clone()), Style::Plain, move || size))])
    }

    /// What a person sees after these bytes: enough of a terminal for what the painter sends.
    fn screen(bytes: &str) -> String {
        let mut rows: Vec<String> = vec![String::new()];
        let mut row = 0;
        let mut rest = bytes;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\n' => {
                    row += 1;
                    rows.resize(rows.len().max(row + 1), String::new());
                }
                '\r' => rows[row].clear(),
                '\u{1b}' => {
                    let end = rest.find(|c: char| c.is_ascii_alphabetic()).expect("a final character");
                    match (&rest[..end], &rest[end..=end]) {
                        (up, "A") => row -= up[1..].parse::<usize>().expect("a number"),
                        (_, "J") => rows.truncate(row + 1),
                        _ => {}
                    }
                    if rest[..=end].ends_with('A') {
                        rows[row].clear();
                    }
                    rest = &rest[end + 1..];
                }
                c => {
                    // A new line of the picture overwrites the old one from its beginning.
                    if rows[row].ends_with('\u{0}') {
                        rows[row].clear();
                    }
                    rows[row].push(c);
                }
            }
            if c == '\n' && row < rows.len() {
                rows[row].clear();
            }
        }
        rows.join("\n")
    }

    #[test]
    fn the_picture_in_the_middle_and_the_lines_that_stay() {
        let out = Shared::default();
        let mut reports = live(&out, Size { rows: 24, columns: 80 });
        let events = story::recorded(story::mixed());
        for event in &events[..14] {
            reports.event(event);
        }
        reports.progress(&Progress::Phase { instance: Some(story::id("docs")), phase: "check 1/2".to_owned() });
        reports.progress(&Progress::Line {
            instance: story::id("migrate[crate=cli]"),
            line: b"\x1b[2J   Compiling cli v0.1.0 (a line that is much longer than what is left of this terminal)"
                .to_vec(),
        });
        reports.tick(story::START_MS + 8_340);
        let first = out.take();
        insta::assert_snapshot!("middle", screen(&first));
        for event in &events[14..] {
            reports.event(event);
        }
        insta::assert_snapshot!("end", screen(&format!("{first}{}", out.take())));
    }

    #[test]
    fn names_that_begin_alike_stay_different_and_a_high_terminal_is_used() {
        let names: Vec<String> = (10..50).map(|n| format!("fix[crate=swarm-orchestrator-part-{n}]")).collect();
        let out = Shared::default();
        let mut reports = live(&out, Size { rows: 60, columns: 50 });
        let events = names.iter().map(|name| story::attempt(name, 1)).collect();
        story::recorded(events).iter().for_each(|event| reports.event(event));
        reports.tick(story::START_MS + 60_000);
        let text = screen(&out.take());
        for n in 10..50 {
            let line = text.lines().find(|line| line.contains(&format!("-{n}]")));
            assert!(line.is_some_and(|line| line.contains("fix[crate=s") && line.contains('…')), "{n}: {text}");
        }
    }

    #[test]
    fn a_picture_that_did_not_change_is_not_painted_again() {
        let out = Shared::default();
        let mut reports = live(&out, Size { rows: 24, columns: 80 });
        for event in &story::recorded(story::mixed())[..8] {
            reports.event(event);
        }
        reports.tick(story::START_MS + 5_000);
        assert!(!out.take().is_empty());
        reports.tick(story::START_MS + 5_010);
        assert_eq!(out.take(), "");
    }

    #[test]
    fn no_line_is_wider_and_the_picture_never_higher_than_the_terminal() {
        let names: Vec<String> = (0..50).map(|n| format!("task[crate=a-rather-long-name-{n}]")).collect();
        let mut events = vec![story::started("wide")];
        events.extend(names.iter().map(|name| story::attempt(name, 1)));
        for (rows, columns) in [(5, 30), (24, 80), (50, 200), (1, 1)] {
            let mut picture = Live::new(Box::new(Shared::default()), Style::Coloured, || Size { rows: 0, columns: 0 });
            let mut state = RunState::default();
            for recorded in story::recorded(events.clone()) {
                state.apply(&recorded);
                picture.event(&recorded, &state);
            }
            let size = Size { rows, columns };
            let lines = picture.picture.lines(&state, story::START_MS + 60_000, size, Style::Coloured);
            assert!(lines.len() <= usize::from(rows.max(3)), "{rows}: {}", lines.len());
            assert!(lines.iter().all(|line| words::width(line) < usize::from(columns.max(20))), "{lines:#?}");
        }
    }
}
