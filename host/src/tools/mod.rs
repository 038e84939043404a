//! The grammar of answers that may call tools. It makes all calls fit the schemas of the functions.
//!
//! 1. [`closed`] reads the schema of a function's arguments as its author means it.
//! 2. [`AnswerRules`] become a grammar for a model with certain control tokens ([`Marks`]).
//!
//! Invariant: nothing here knows HTTP, wire types or templates.

mod constraint;
#[cfg(test)]
pub mod golden;
mod schema;

pub use constraint::{AnswerRules, Marks, arguments, before_answer};
pub use schema::closed;
