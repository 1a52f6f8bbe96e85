//! One tool as a value. Arguments are parsed once, here; a tool's own code sees its own type.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use swarm_protocol::chat::ToolSpec;

use super::{Refused, ToolResult};
use crate::agent::permission::Act;

/// A call's arguments as the model wrote them.
pub type Input = Map<String, Value>;

/// What a tool does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: such calls may run beside each other.
    Reads,
    /// Something: such a call runs alone, in its turn.
    Changes,
}

/// What a call of a tool is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The work.
    Work,
    /// To say how the work ends: a report, a plan, a review. Without such a tool no work can end well, so no list takes it
    /// away; and what the model says by it no hook rewrites.
    HandOver,
}

/// Names all that a call is about to do; over parsed arguments.
pub type Naming<A> = Box<dyn Fn(&A, &mut dyn FnMut(Act<'_>)) -> Result<(), Refused> + Send + Sync>;

type Acts = Box<dyn Fn(&Input, &mut dyn FnMut(Act<'_>)) -> Result<(), Refused> + Send + Sync>;
type Run = Box<dyn Fn(&Input) -> ToolResult + Send + Sync>;

/// One tool.
pub struct Tool {
    /// What the model is told.
    pub spec: ToolSpec,
    /// What it does to the world.
    pub effect: Effect,
    /// What it is for.
    pub purpose: Purpose,
    acts: Acts,
    run: Run,
}

impl std::fmt::Debug for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tool").field("name", &self.spec.name).field("effect", &self.effect).finish_non_exhaustive()
    }
}

impl Tool {
    /// A tool over arguments of type `A`. `acts` names what a call is about to do, for the rules; `run` does it.
    pub fn new<A: DeserializeOwned>(
        spec: ToolSpec,
        effect: Effect,
        acts: impl Fn(&A, &mut dyn FnMut(Act<'_>)) -> Result<(), Refused> + Send + Sync + 'static,
        run: impl Fn(A) -> ToolResult + Send + Sync + 'static,
    ) -> Tool {
        let acts = move |input: &Input, each: &mut dyn FnMut(Act<'_>)| acts(&parse(input)?, each);
        let run = move |input: &Input| run(parse(input)?);
        Tool { spec, effect, purpose: Purpose::Work, acts: Box::new(acts), run: Box::new(run) }
    }

    /// The same as a tool by which work is handed over.
    pub fn to_hand_over(self) -> Tool {
        Tool { purpose: Purpose::HandOver, ..self }
    }

    /// A tool within the agent: a list, a note.
    pub fn own<A: DeserializeOwned>(
        spec: ToolSpec,
        effect: Effect,
        run: impl Fn(A) -> ToolResult + Send + Sync + 'static,
    ) -> Tool {
        let acts = |_: &A, each: &mut dyn FnMut(Act<'_>)| {
            each(Act::Own);
            Ok(())
        };
        Tool::new(spec, effect, acts, run)
    }

    /// Names all that a call is about to do.
    ///
    /// # Errors
    /// [`Refused`] for arguments that cannot be read.
    pub fn acts(&self, input: &Input, each: &mut dyn FnMut(Act<'_>)) -> Result<(), Refused> {
        (self.acts)(input, each)
    }

    /// Does it.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn run(&self, input: &Input) -> ToolResult {
        (self.run)(input)
    }
}

/// What the model is told of a tool: `properties` is the inside of its schema, all that is not `required` may be left out.
pub fn spec(name: &str, description: &str, properties: Value, required: &[&str]) -> ToolSpec {
    let schema = serde_json::json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    });
    ToolSpec { name: name.to_owned(), description: description.to_owned(), schema }
}

fn parse<A: DeserializeOwned>(input: &Input) -> Result<A, Refused> {
    // A model that leaves out an argument often writes `null`.
    let given: Input =
        input.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
    serde_json::from_value(Value::Object(given)).map_err(|error| Refused(format!("the arguments do not fit: {error}")))
}
