//! Grammars, which hold answers to an exact form, with every backend.
//!
//! 1. [`Grammars::compile`] compiles a request's [`Grammar`]. Requests with the same grammar share the result
//!    (`cache.rs`). Compiling has threads of its own (`compile.rs`), and another process tries it first (`trial.rs`).
//! 2. Each sequence gets a [`Matcher`] of the [`CompiledGrammar`] (`matcher.rs`). The matcher tells which tokens may
//!    come next, takes the token that was chosen, and tells which tokens must follow.
//! 3. The engine has other threads ([`Workers`]) run the matchers while the model computes (`engine/constraint.rs`).
//!    Each sequence has a [`Task`] for that (`task.rs`).
//!
//! Invariant: nothing here knows HTTP. Wire types become a [`Grammar`] in `routes/generation/grammar.rs`.

mod cache;
mod compile;
mod compiled;
mod environment;
mod gbnf;
mod json_text;
mod literal;
mod matcher;
mod messages;
mod metrics;
mod regular;
mod schema;
mod task;
#[cfg(test)]
pub mod tests;
mod text;
mod trial;
mod workers;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use cache::{GrammarThreads, Grammars};
pub use compile::Grammar;
pub use compiled::CompiledGrammar;
pub use literal::regex_escaped;
pub use matcher::Matcher;
pub use metrics::GrammarMetrics;
pub use regular::regex_of_lark;
pub use schema::relaxed;
pub use task::{FastForward, Found, RunHandle, Task};
pub use text::{Pattern, TextRules};
pub use trial::{COMMAND as TRIAL_COMMAND, child::run as run_trials};
pub use workers::Workers;

/// Why a grammar cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum GrammarError {
    /// The grammar is wrong, allows nothing, or is larger than the limits allow.
    #[error("{0}")]
    Invalid(String),
    /// The grammar's text is longer than the configuration allows.
    #[error(
        "the grammar has {bytes} bytes, more than the {limit} that max_text_bytes in [grammar] allows: make it smaller"
    )]
    TooLong { bytes: usize, limit: usize },
    /// Compiling took too long.
    #[error(
        "the grammar could not be compiled within {} ms: make it simpler",
        .0.as_millis()
    )]
    Timeout(Duration),
    /// Finding one mask took too long.
    #[error(
        "the grammar is too complex here: which tokens may come next was not known within {} ms; make it simpler",
        .0.as_millis()
    )]
    Slow(Duration),
    /// Compiling the grammar ended the process of its trial.
    #[error(
        "compiling the grammar took more memory or stack than there is for it: make it smaller, or nest it less deeply"
    )]
    Unstable,
    /// Other grammars kept all permits to compile, or no process for a trial could be started.
    #[error("too many grammars are being compiled; try again later")]
    Busy,
    /// The runner that compiles the model's grammars is gone, for this reason.
    #[error("{0}")]
    Gone(String),
}

impl GrammarError {
    /// The kind of the error, without texts of the grammar.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::TooLong { .. } => "too long",
            Self::Timeout(_) => "timeout",
            Self::Slow(_) => "slow",
            Self::Unstable => "unstable",
            Self::Busy => "busy",
            Self::Gone(_) => "gone",
        }
    }

    /// Whether the same grammar may be compiled at another time.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Busy | Self::Gone(_))
    }
}
