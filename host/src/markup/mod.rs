//! Reasoning and tool calls in a model's text, marked up as families of models write them.
//!
//! 1. [`ToolFormat`] describes how calls are written, and [`ReasoningTags`] how reasoning is marked. Both are
//!    recognized from a model's chat template.
//! 2. [`ReasoningSplitter`] and [`CallParser`] take an answer's text in pieces and separate reasoning, text and calls.
//! 3. [`ToolFormat::write`] writes calls.
//!
//! Invariant: nothing here knows HTTP, wire types or tokens, or renders a template.

mod arguments;
mod content;
mod format;
mod head;
mod json;
mod parser;
mod reasoning;
mod rules;
mod search;
mod table;
mod types;
mod write;

pub use content::{AnswerContent, CallBegin, CallPiece};
pub use format::{Arguments, CallFormat, CallIds, OtherBegin, Pairs, Tagged, ToolFormat};
pub use parser::CallParser;
#[cfg(test)]
pub use parser::tests as parser_tests;
pub use reasoning::{Frame, InPrompt, Reasoning, ReasoningSplitter, ReasoningTags, Split};
pub use rules::{CallRules, Callable, Demand};
pub use table::FORMATS;
pub use types::{Types, resolved};
