//! Metrics of a model's grammars.

use prometheus::{Histogram, HistogramOpts, IntCounter, Opts, Registry, exponential_buckets};

use crate::metrics::registered;

/// Counters and histograms of one model's grammars.
#[derive(Clone)]
pub struct GrammarMetrics {
    pub cache_hits: IntCounter,
    pub cache_misses: IntCounter,
    pub fast_forward_tokens: IntCounter,
    pub compile_seconds: Histogram,
    pub mask_seconds: Histogram,
}

impl GrammarMetrics {
    /// Makes the metrics of `model` and registers them.
    pub fn register(registry: &Registry, model: &str) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| {
            let options = Opts::new(name, help).const_label("model", model);
            registered(registry, IntCounter::with_opts(options)?)
        };
        let seconds = |name: &str, help: &str, first: f64| {
            let buckets = exponential_buckets(first, 2.0, 18)?;
            let options = HistogramOpts::new(name, help).buckets(buckets);
            let options = options.const_label("model", model);
            registered(registry, Histogram::with_opts(options)?)
        };
        Ok(Self {
            cache_hits: counter(
                "tenon_grammar_cache_hits_total",
                "Requests whose grammar was compiled already",
            )?,
            cache_misses: counter(
                "tenon_grammar_cache_misses_total",
                "Requests whose grammar had to be compiled",
            )?,
            fast_forward_tokens: counter(
                "tenon_grammar_forced_tokens_total",
                "Tokens that a grammar left no choice about, put in without sampling",
            )?,
            compile_seconds: seconds(
                "tenon_grammar_compile_seconds",
                "Time to compile a grammar, whether it could be or not",
                0.000_1,
            )?,
            mask_seconds: seconds(
                "tenon_grammar_mask_seconds",
                "Time to find out which tokens may come next",
                0.000_01,
            )?,
        })
    }
}
