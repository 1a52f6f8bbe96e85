//! What an agent says, without the run's secrets: before anybody hears it.

use swarm_protocol::agent::{AgentNote, AgentSays};

use crate::secrets::{Numbers, Secrets};

/// What an agent says, without secrets. What cannot be read any more without them is not heard.
pub fn masked(said: AgentSays, secrets: &Secrets) -> AgentSays {
    if secrets.is_empty() {
        return said;
    }
    let without = |numbers: Numbers| {
        let mut value = serde_json::to_value(&said)?;
        secrets.mask_value_by(&mut value, numbers, &|text| secrets.mask(text));
        serde_json::from_value(value)
    };
    // A number of the message itself, which a secret of a few digits may stand in by chance, is needed as what it is.
    let heard = without(Numbers::Masked).or_else(|_| without(Numbers::Kept));
    heard.unwrap_or_else(|_| AgentSays::Note { note: AgentNote::Told { text: "(masked)".to_owned() } })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_an_agent_says_holds_no_secret_not_as_a_number_either() {
        let secrets = Secrets::new([("PIN", "90210777")]);
        let says = |id, pin: u64| {
            let arguments = serde_json::json!({ "pin": pin, "90210777": "90210777" });
            let arguments = arguments.as_object().unwrap().clone();
            AgentSays::Permission { id, tool: "bash".to_owned(), arguments, reason: "90210777?".to_owned() }
        };
        let heard = |said| match masked(said, &secrets) {
            AgentSays::Permission { id, arguments, reason, .. } => (id, Value::Object(arguments).to_string(), reason),
            other => panic!("{other:?}"),
        };
        assert_eq!(heard(says(7, 90210777)), (7, r#"{"pin":"***","***":"***"}"#.to_owned(), "***?".to_owned()));
        // The question's own number stays what it is.
        assert_eq!(heard(says(90210777, 1)).0, 90210777);
    }
}
