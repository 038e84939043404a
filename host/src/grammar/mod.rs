//! Grammars: what an answer must look like, exactly, for every backend.
//!
//! 1. A request's [`Grammar`] is compiled by [`Grammars::compile`], once for all requests that have the same (`cache.rs`),
//!    on threads of its own and within limits (`compile.rs`).
//! 2. Each sequence gets a [`Matcher`] of the [`CompiledGrammar`]: it says which tokens may come next, is told which came, and
//!    knows those that had to come (`matcher.rs`).
//! 3. The engine has this done on other threads while the model computes (`engine/constraint.rs`).
//!
//! Invariant: nothing here knows HTTP. Wire types become a [`Grammar`] in `routes/grammar.rs`.

mod cache;
mod compile;
mod environment;
mod matcher;
mod metrics;
mod schema;
#[cfg(test)]
pub mod tests;
mod text;
mod workers;

use std::time::Duration;

pub use cache::{GrammarThreads, Grammars};
pub use compile::{CompiledGrammar, Grammar};
pub use matcher::Matcher;
pub use metrics::GrammarMetrics;
pub use text::Piece;
pub use workers::{Forced, Found, Progress, Task, Workers};

/// Why a grammar cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// It is wrong, allows nothing, or is larger than the limits allow.
    #[error("{0}")]
    Invalid(String),
    /// Compiling took too long.
    #[error(
        "the grammar could not be compiled within {} ms: make it simpler",
        .0.as_millis()
    )]
    Timeout(Duration),
    /// Finding out which tokens may come next took too long.
    #[error(
        "the grammar is too complex here: which tokens may come next was not known within {} ms; make it simpler",
        .0.as_millis()
    )]
    Slow(Duration),
    /// All threads that compile stayed busy with other grammars.
    #[error("too many grammars are being compiled; try again later")]
    Busy,
}
