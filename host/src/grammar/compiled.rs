//! A grammar that sequences can follow.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{GrammarMetrics, Matcher, Workers};

/// A grammar that sequences can follow, each with a [`Matcher`] of its own.
pub struct CompiledGrammar {
    /// A matcher at the beginning of the grammar. Its lexer is built as far as the first mask needs it. Locked while it
    /// is copied.
    pub(super) prototype: Mutex<llguidance::Matcher>,
    /// What this grammar shares with the model's other grammars.
    pub(super) shared: Arc<Shared>,
    pub(super) unenforced: Vec<String>,
    /// Approximate size in memory.
    pub(super) bytes: usize,
}

/// What all grammars of a model share.
pub struct Shared {
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
        let prototype = self.prototype.lock();
        let prototype = prototype.unwrap_or_else(PoisonError::into_inner);
        let matcher = prototype.deep_clone().into_cancellable();
        Matcher::new(matcher, self.shared.mask_words)
    }

    /// Keywords of a lenient schema that the grammar does not enforce.
    pub fn unenforced(&self) -> &[String] {
        &self.unenforced
    }

    /// Words of a mask: `ceil(logits_width / 32)`.
    pub fn mask_words(&self) -> usize {
        self.shared.mask_words
    }

    /// Time limit for finding one mask.
    pub fn mask_timeout(&self) -> Duration {
        self.shared.mask_timeout
    }

    /// The threads that match sequences with this grammar.
    pub fn workers(&self) -> &Workers {
        &self.shared.workers
    }

    /// Counters of all grammars of the model.
    pub fn metrics(&self) -> &GrammarMetrics {
        &self.shared.metrics
    }
}

impl std::fmt::Debug for CompiledGrammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompiledGrammar").finish_non_exhaustive()
    }
}
