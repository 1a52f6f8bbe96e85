//! What the proxy refused a job, or could not reach for it, once each: for the attempt's notes, with the plan's entry that would allow it.

use std::sync::Mutex;

use swarm_protocol::{Ended, RefusedAct, SeenRefusal};

/// Different refusals that are kept of one job; of more only the number.
pub const REFUSALS_MAX: usize = 50;

/// What kept a job from whom it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptBy {
    /// The proxy: by its rules, or by what the request was.
    Us,
    /// The network: the name does not resolve, nobody answers.
    Network,
}

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Who was to be reached, as `host:port`; what was sent where that is no host. Harmless to print.
    pub asked: String,
    /// Who did not let it.
    pub by: KeptBy,
    /// Why not, for people.
    pub reason: String,
    /// The entry of `network` that would allow it, where one would.
    pub entry: Option<String>,
    /// How often.
    pub times: u64,
}

impl Refusal {
    /// The same as what a cage keeps from its job, where an entry of the plan would allow it.
    fn seen(&self) -> Option<SeenRefusal> {
        let host = self.entry.clone()?;
        Some(SeenRefusal { act: RefusedAct::Host { host: Some(host) }, rule: self.reason.clone() })
    }

    /// The refusal for people, with the plan's entry that would allow it.
    pub fn note(&self, policy: &str) -> String {
        let how = match self.by {
            KeptBy::Us => "was refused",
            KeptBy::Network => "was not reached",
        };
        let mut note = format!("network: {} {how}", self.asked);
        if self.times > 1 {
            note.push_str(&format!(" {} times", self.times));
        }
        note.push_str(&format!(": {}", self.reason));
        if let Some(entry) = &self.entry {
            note.push_str(&format!("; \"{entry}\" among the `network` of [sandbox.{policy}] would allow it"));
        }
        note
    }
}

/// All refusals of one job.
#[derive(Debug, Default)]
pub struct Refusals {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    all: Vec<Refusal>,
    more: u64,
}

impl Refusals {
    /// Counts a refusal.
    pub fn note(&self, asked: &str, reason: &str, entry: Option<String>) {
        self.count(KeptBy::Us, asked, reason, entry);
    }

    /// Counts one who could not be reached although that is allowed.
    pub fn unreached(&self, asked: &str, reason: &str) {
        self.count(KeptBy::Network, asked, reason, None);
    }

    /// Takes one back: what was refused was asked for again as it should be.
    pub fn settled(&self, asked: &str, reason: &str) {
        let mut kept = self.kept.lock().expect("nobody panics with it");
        kept.all.retain(|known| known.asked != asked || known.reason != reason);
    }

    fn count(&self, by: KeptBy, asked: &str, reason: &str, entry: Option<String>) {
        let mut kept = self.kept.lock().expect("nobody panics with it");
        let known = kept.all.iter().position(|known| known.asked == asked && known.reason == reason);
        match known {
            Some(at) => kept.all[at].times += 1,
            None if kept.all.len() < REFUSALS_MAX => {
                kept.all.push(Refusal { asked: asked.to_owned(), by, reason: reason.to_owned(), entry, times: 1 });
            }
            None => kept.more += 1,
        }
    }

    /// What was noted of a job that ended. Of one that failed, what the plan could have allowed is a refusal as any other of its
    /// cage; all else is a note for people, with the entry of the policy's `network` that would allow it.
    pub fn told(&self, ended: &Ended, policy: &str) -> (Vec<SeenRefusal>, Vec<String>) {
        let (all, more) = self.take();
        let has_failed = !matches!(ended, Ended::Exited { code: 0 });
        let (mut seen, mut notes) = (vec![], vec![]);
        for refusal in &all {
            match refusal.seen().filter(|_| has_failed) {
                Some(refusal) => seen.push(refusal),
                None => notes.push(refusal.note(policy)),
            }
        }
        if more > 0 {
            notes.push(format!("network: {more} further refusals"));
        }
        (seen, notes)
    }

    /// What was noted so far, in the order of its first appearance, and how many others there were.
    pub fn take(&self) -> (Vec<Refusal>, u64) {
        let mut kept = self.kept.lock().expect("nobody panics with it");
        let kept = std::mem::take(&mut *kept);
        (kept.all, kept.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_job_was_refused_stands_with_what_its_cage_refused() {
        let told = |code| {
            let refusals = Refusals::default();
            refusals.note("evil.test:443", "no entry names it", Some("evil.test:443".to_owned()));
            refusals.unreached("far.test:443", "nobody answers");
            let (seen, notes) = refusals.told(&Ended::Exited { code }, "default");
            (seen.into_iter().map(|refusal| (refusal.act, refusal.rule)).collect::<Vec<_>>(), notes.len())
        };
        let act = RefusedAct::Host { host: Some("evil.test:443".to_owned()) };
        assert_eq!(told(22), (vec![(act, "no entry names it".to_owned())], 1));
        assert_eq!(told(0), (vec![], 2), "what it did without is a note");
    }

    #[test]
    fn the_same_refusal_is_kept_once_and_their_number_is_bounded() {
        let refusals = Refusals::default();
        for number in 0..REFUSALS_MAX + 7 {
            refusals.note(&format!("host{number}:443"), "no", None);
            refusals.note("host0:443", "no", None);
        }
        let (all, more) = refusals.take();
        assert_eq!((all.len(), more), (REFUSALS_MAX, 7));
        assert_eq!(all[0].note("default"), format!("network: host0:443 was refused {} times: no", REFUSALS_MAX + 8));
    }
}
