//! What an agent said of its work at its end, in lines for people. It is said, not shown: whether the work is done, checks have
//! decided.

use swarm_protocol::agent::Envelope;

use super::{sanitize, words};
use crate::event::AttemptEnd;
use crate::journal::InstanceState;

/// Columns of a line; a longer one is cut.
const COLUMNS_MAX: usize = 160;
/// Items of evidence and of follow-ups that are shown, of each.
const ITEMS_MAX: usize = 4;

/// The account of an instance's newest attempt, each line behind `indent` and with its line feed; empty where no agent gave
/// one.
pub fn lines(instance: &InstanceState, indent: &str) -> String {
    let Some(envelope) = of(instance) else { return String::new() };
    let mut text = format!("{indent}{}\n", said(instance, envelope));
    for (title, items) in [("shown by", &envelope.evidence), ("left to others", &envelope.follow_ups)] {
        for item in items.iter().take(ITEMS_MAX) {
            text.push_str(&format!("{indent}    {title}: {}\n", one_line(item)));
        }
        if items.len() > ITEMS_MAX {
            text.push_str(&format!("{indent}    {title}: … and {} more\n", items.len() - ITEMS_MAX));
        }
    }
    text
}

/// The account in one line; `None` where no agent gave one.
pub fn line(instance: &InstanceState) -> Option<String> {
    of(instance).map(|envelope| said(instance, envelope))
}

/// The account itself; an agent that could not say anything gave none.
pub fn of(instance: &InstanceState) -> Option<&Envelope> {
    let envelope = instance.last_attempt()?.envelope()?;
    let empty = envelope.summary.is_empty() && envelope.evidence.is_empty() && envelope.follow_ups.is_empty();
    (!empty).then_some(envelope)
}

fn said(instance: &InstanceState, envelope: &Envelope) -> String {
    let turns = words::count(u64::from(envelope.turns), "turn");
    let head = format!("agent: {} after {turns}", envelope.status.name());
    // How an attempt ended that its agent ended early says the same words already.
    let known = matches!(instance.last_attempt().and_then(|last| last.end()), Some(AttemptEnd::Agent { .. }));
    match envelope.summary.is_empty() || known {
        true => head,
        false => words::fit(&format!("{head}: {}", one_line(&envelope.summary)), COLUMNS_MAX),
    }
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words::fit(&sanitize::name(&line), COLUMNS_MAX)
}

#[cfg(test)]
mod tests {
    use swarm_plans::InstanceId;
    use swarm_protocol::agent::AgentStatus;

    use super::*;
    use crate::event::RunEvent;
    use crate::journal::replay;
    use crate::report::story::{mixed, recorded};

    fn told(envelope: Envelope) -> String {
        let mut events = mixed();
        let mut agent: Option<InstanceId> = None;
        for event in &mut events {
            if let RunEvent::AttemptFinished { instance, envelope: place, end: AttemptEnd::Succeeded, .. } = event {
                *place = Some(Box::new(envelope.clone()));
                agent = Some(instance.clone());
            }
        }
        let state = replay(&recorded(events));
        lines(&state.instances[&agent.expect("one succeeds")], "  ")
    }

    fn envelope(summary: &str, follow_ups: &[&str]) -> Envelope {
        Envelope {
            status: AgentStatus::Partial,
            detail: String::new(),
            summary: summary.to_owned(),
            evidence: vec!["cargo test: ok".to_owned()],
            follow_ups: follow_ups.iter().map(|text| (*text).to_owned()).collect(),
            turns: 3,
        }
    }

    #[test]
    fn an_account_is_its_summary_what_shows_it_and_what_is_left() {
        let expected = "  agent: partial after 3 turns: half of it\n      shown by: cargo test: ok\n      left to others: the rest\n";
        assert_eq!(told(envelope("half\nof it", &["the rest"])), expected);
    }

    #[test]
    fn what_an_agent_says_is_harmless_and_bounded() {
        let said = told(envelope(&format!("\u{1b}[2J{}", "x".repeat(500)), &["a", "b", "c", "d", "e", "f"]));
        assert!(!said.contains('\u{1b}') && said.contains("… and 2 more"), "{said}");
        assert!(said.lines().all(|line| line.chars().count() < COLUMNS_MAX + 30), "{said}");
    }
}
