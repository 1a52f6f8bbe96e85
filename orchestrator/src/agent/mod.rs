//! Agents as the coordinator sees them. The loop itself runs inside of the cage and is believed nothing; here lies what it
//! must not have: the way to models, the transcript, and the people.
//!
//! [`bootstrap`] says what an agent is told at its beginning, [`conversation`] hears it and answers, [`transcript`] keeps
//! what was said, [`show`] makes it legible, [`planning`] takes the plans that some write.

/// People who join it while it works.
pub mod attach;
/// What an agent is told at its beginning; pure but for reading the tree.
pub mod bootstrap;
/// Hears one agent and answers it.
pub mod conversation;
/// What a plan may cost; pure.
pub mod estimate;
/// Where a person wants a conversation gone on with otherwise.
pub mod fork;
/// What an agent says, without secrets; pure.
mod masked;
/// What a project has for agents beside words.
pub mod of_project;
/// Takes plans from an agent, or says what is wrong with them.
pub mod planning;
/// What an agent is told that settles a conflict; pure.
pub mod resolving;
/// What a reviewer is told, and how it answers.
pub mod reviewing;
/// What was said, legible; pure.
pub mod show;
/// What people see of an answer while it arrives.
mod shown;
/// What was said, on disk.
pub mod transcript;
/// What an agent wants of a person; pure.
mod wish;
