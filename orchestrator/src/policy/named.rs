//! The paths that a policy names, each looked up once. A person's word is asked for what was found, and that is what is granted: a task of
//! another run that exchanges a link between two looks would have the one judged and the other given.

use swarm_plans::SandboxPolicy;
use swarm_protocol::Access;

use super::paths::Guard;
use super::reason::Reason;
use super::way::Place;

/// One path that a policy wants shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named<'p> {
    /// `read`, `cow` or `write`.
    pub key: &'static str,
    /// As written.
    pub text: &'p str,
    /// What is wanted of it.
    pub access: Access,
    /// Where it leads, or why it is not granted.
    pub found: Result<Place, Reason>,
}

/// All of a policy, by key in the order in which a person is asked, then as written.
pub fn named<'p>(policy: &'p SandboxPolicy, guard: Guard<'_>) -> Vec<Named<'p>> {
    let keys = [
        ("read", &policy.read, Access::Read),
        ("cow", &policy.cow, Access::Read),
        ("write", &policy.write, Access::Write),
    ];
    let texts = keys.into_iter().flat_map(|(key, texts, access)| texts.iter().map(move |text| (key, text, access)));
    texts.map(|(key, text, access)| Named { key, text, access, found: guard.granted(text, access) }).collect()
}
