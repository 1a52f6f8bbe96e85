//! `swarm schema`: the JSON Schema of plans.

use crate::commands::failure::Failure;
use crate::commands::surroundings::Surroundings;

/// Prints the JSON Schema of plans, for editors.
#[derive(Debug, clap::Args)]
pub struct Schema {}

/// The schema on stdout.
///
/// # Errors
/// Nobody reads it.
pub fn run(Schema {}: &Schema, it: &Surroundings) -> Result<u8, Failure> {
    let text = serde_json::to_string_pretty(&swarm_plans::schema()).expect("a schema has string keys only");
    it.out.write(&format!("{text}\n"))?;
    Ok(0)
}
