//! The code that all generating routes share, from a request's parameters to its answers. No wire types are known here.
//!
//! 1. [`Parameters`] are what a request asks for, [`Settings`] the same, checked and with their defaults.
//! 2. [`begin`] submits a route's prompts to the engine. The route writes the answers in its own form.

mod answer;
mod dry;
mod grammar;
mod parameters;
mod reasoning_budget;
pub mod settings;
mod tally;
mod warnings;

pub use self::{
    answer::{Answers, ReadyPrompt, begin, check_count},
    grammar::{AnswerGrammar, WantedGrammar, any_object, refused},
    parameters::Parameters,
    settings::{RouteParameters, Settings},
    tally::Tally,
    warnings::Warnings,
};
