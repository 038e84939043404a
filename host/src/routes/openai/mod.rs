//! What OpenAI's APIs share. `parameters.rs` and `grammar.rs` read what chats and completions ask for, and `answer.rs` writes their
//! answers, whole or as a stream, in the [`Format`] of each. Responses have the same efforts and log-probabilities.

mod answer;
mod effort;
mod format;
mod grammar;
pub mod logprobs;
pub mod parameters;
mod stream;
mod structural_tag;

pub use self::{
    answer::answer,
    effort::effort,
    format::{Format, finish_reason},
    grammar::wanted,
    parameters::parameters,
};

/// Longest name of a function.
pub const MAX_NAME: usize = 64;
