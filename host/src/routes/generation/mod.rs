//! The code that all generating routes share, from a request's parameters to its answers.
//!
//! 1. [`Settings`] are the parameters, checked and with their defaults.
//! 2. [`answer`] submits a route's prompts to the engine. It sends the answers whole or as a stream, in the route's [`Format`].
//!    A route whose answers have another form calls [`begin`], and writes the answers itself.

mod answer;
mod dry;
mod format;
mod grammar;
pub mod logprobs;
mod reasoning_budget;
pub mod settings;
mod stream;
mod structural_tag;
mod warnings;

pub use self::{
    answer::{Answers, Prompt, answer, begin, check_count},
    format::{Format, Tally, finish_reason},
    grammar::{AnswerGrammar, WantedGrammar, any_object, refused},
    settings::{RouteParameters, Settings},
    warnings::Warnings,
};
