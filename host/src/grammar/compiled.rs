//! A grammar that sequences can follow.

use std::{sync::Arc, time::Duration};

use super::{GrammarMetrics, Matcher, Task, Workers, matcher::Prototype};

/// A grammar that sequences can follow, each with a [`Matcher`] of its own.
pub struct CompiledGrammar {
    pub(super) prototype: Arc<Prototype>,
    pub(super) runtime: Arc<GrammarRuntime>,
    pub(super) unenforced: Vec<String>,
    /// Approximate size in memory.
    pub(super) bytes: usize,
}

/// The parts that all grammars of a model share: threads, metrics and limits of matching.
pub struct GrammarRuntime {
    pub workers: Arc<Workers>,
    pub metrics: GrammarMetrics,
    /// `ceil(logits_width / 32)`
    pub mask_words: usize,
    pub mask_timeout: Duration,
}

impl CompiledGrammar {
    /// A new matcher at the beginning of the grammar. Copies the lexer as built so far, which takes a while for a large
    /// grammar.
    pub fn matcher(&self) -> Matcher {
        self.prototype.matcher()
    }

    /// A task for a sequence at the beginning of the grammar.
    pub fn task(&self) -> Task {
        let mask_seconds = self.runtime.metrics.mask_seconds.clone();
        Task::new(self.prototype.clone(), mask_seconds)
    }

    /// Keywords of a lenient schema that the grammar does not enforce.
    pub fn unenforced(&self) -> &[String] {
        &self.unenforced
    }

    /// Words of a mask: `ceil(logits_width / 32)`.
    pub fn mask_words(&self) -> usize {
        self.runtime.mask_words
    }

    /// Time limit for finding one mask.
    pub fn mask_timeout(&self) -> Duration {
        self.runtime.mask_timeout
    }

    /// The threads that match sequences with this grammar.
    pub fn workers(&self) -> &Workers {
        &self.runtime.workers
    }

    /// Counters of all grammars of the model.
    pub fn metrics(&self) -> &GrammarMetrics {
        &self.runtime.metrics
    }
}

impl std::fmt::Debug for CompiledGrammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompiledGrammar").finish_non_exhaustive()
    }
}
