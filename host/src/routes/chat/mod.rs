//! Conversations, for all routes that answer one: their tools, their prompt, and the grammar of answers with tool calls. No wire
//! types are known here.

pub mod grammar;
pub mod prompt;
pub mod tools;
mod variables;

pub use variables::{WantedReasoning, variables};
