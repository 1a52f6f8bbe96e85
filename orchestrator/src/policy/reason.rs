//! Why a path is not granted, in words for people, and whose fault that is: the plan's, which no machine grants, or this machine's, on
//! which something stands against it. Who decides is [`super::paths`].

use crate::state::Unsearched;

/// Why a path is not granted, for people, by what they can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No machine grants it: the plan has to ask for something else.
    Never(&'static str),
    /// What is on this machine stands against it: on another one, or on another day, the same text may be granted.
    Here {
        /// What stands against it.
        why: &'static str,
        /// What to do about that.
        mend: &'static str,
    },
    /// So does a state folder of swarm, known by what lies in it.
    State,
}

/// Whose fault a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BelongsTo {
    /// The plan's, on whichever machine.
    Plan,
    /// This machine's, with what lies on it.
    Machine,
}

impl Reason {
    /// Whose fault it is.
    pub fn belongs_to(self) -> BelongsTo {
        match self {
            Reason::Never(_) => BelongsTo::Plan,
            Reason::Here { .. } | Reason::State => BelongsTo::Machine,
        }
    }
}

impl From<Unsearched> for Reason {
    fn from(why: Unsearched) -> Reason {
        match why {
            Unsearched::TooMany => TOO_MANY,
            Unsearched::Unreadable => UNREADABLE,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Reason::Never(why) | Reason::Here { why, .. } => why,
            Reason::State => OF_STATE,
        })
    }
}

const OF_STATE: &str = "it would expose swarm's own state";

pub(super) const NOT_HERE: Reason = Reason::Here {
    why: "it does not exist, or cannot be reached",
    mend: "take it out of the plan where this machine is to run it, or let it be there",
};
pub(super) const NOT_IN_THIS_TIER: Reason = Reason::Here {
    why: "the landlock tier cannot hide what lies in a worktree",
    mend: "take it out of the plan where this machine is to run it; `swarm doctor` says why it has no more",
};
pub(super) const EXPOSES_STATE: Reason = Reason::Never(OF_STATE);
pub(super) const HOLDS_GIT: Reason = Reason::Here {
    why: "it would open another repository's `.git`; name folders without one",
    mend: "name folders in it that hold no repository, or move the repository out of it (find DIR -name .git shows which)",
};
const TOO_MANY: Reason = Reason::Here {
    why: "it holds too many entries, or too deep ones, to look for swarm's own state and repositories among them; name a folder in it",
    mend: "name a folder in it, or take out what it is not needed for",
};
pub(super) const UNREADABLE: Reason = Reason::Here {
    why: "a folder in it cannot be read to its end, and nobody knows what that holds",
    mend: "find DIR > /dev/null says which, and why; name a folder beside it, or mend the disk",
};
pub(super) const CLOSED: Reason = Reason::Here {
    why: "it holds a folder that nobody can look into before the task opens it: chmod u+rx it, or name another folder",
    mend: "find DIR -type d ! -executable shows which; chmod u+rx it, or name another folder",
};
pub(super) const HOLDS_PATH: Reason =
    Reason::Never("it holds a folder on your PATH, and what lies there runs when you type a command");
pub(super) const LEADS_THERE: Reason = Reason::Here {
    why: "a link on your PATH leads into it, and what lies there runs when you type a command",
    mend: "find ${PATH//:/ } -lname '*/*' -printf '%p -> %l\\n' shows which; name a folder beside what it leads to, or remove the link",
};
pub(super) const PARENT: Reason = Reason::Never("it may not hold `..`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_on_a_disk_is_not_the_plans_fault() {
        for reason in [NOT_HERE, NOT_IN_THIS_TIER, HOLDS_GIT, TOO_MANY, CLOSED, LEADS_THERE, Reason::State] {
            assert_eq!(reason.belongs_to(), BelongsTo::Machine, "{reason}");
        }
        for reason in [EXPOSES_STATE, PARENT] {
            assert_eq!(reason.belongs_to(), BelongsTo::Plan, "{reason}");
        }
    }
}
