//! Tools that a model may call: how its family writes calls, and how they are read from an answer while it is written.
//!
//! 1. [`ToolFormat`] is a line of the table of formats: the one of a model is recognised from its chat template.
//! 2. [`CallParser`] takes an answer's text in pieces and gives back text and calls.
//! 3. [`CallRules`] are the grammar of answers whose calls always fit the functions' schemas.
//!
//! Invariant: nothing here knows HTTP, wire types or templates.

mod constraint;
mod format;
mod head;
mod json;
mod parser;

pub use constraint::{CallRules, thoughts};
pub use format::{Body, FORMATS, ToolFormat};
pub use parser::{CallParser, CallSyntax, Demand, Part, begun};
