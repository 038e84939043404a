//! Metrics of the model thread. They are plain atomics: the thread never waits for a scrape.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use prometheus::{IntCounter, IntGauge, Opts, Registry};

use crate::metrics::{ModelPart, registered};

/// Counters and gauges of one model. While the model's level changes, the old and the new engine update the same
/// metrics.
#[derive(Clone)]
pub struct EngineMetrics {
    pub steps: IntCounter,
    pub computed_tokens: IntCounter,
    pub generated_tokens: IntCounter,
    pub prefix_lookup_tokens: IntCounter,
    pub cached_tokens: IntCounter,
    pub drafted_tokens: IntCounter,
    pub accepted_tokens: IntCounter,
    pub preemptions: IntCounter,
    pub running: PartGauge,
    pub waiting: PartGauge,
    pub cached_prefixes: PartGauge,
    pub kv_used_tokens: PartGauge,
    pub kv_running_tokens: PartGauge,
    pub kv_total_tokens: PartGauge,
    pub decode_threads: PartGauge,
    pub prefill_threads: PartGauge,
    pub thread_switches: IntCounter,
    /// Keeps these metrics in `/metrics` until the last engine has ended.
    _shown: Option<Arc<ModelPart>>,
}

impl EngineMetrics {
    /// Makes and registers the metrics of `model`.
    pub fn register(registry: &Registry, model: &str) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| {
            registered(registry, IntCounter::with_opts(opts(name, help, model))?)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = registered(registry, IntGauge::with_opts(opts(name, help, model))?)?;
            prometheus::Result::Ok(PartGauge::new(gauge))
        };
        Ok(Self {
            steps: counter("tenon_engine_steps_total", "Forwards")?,
            computed_tokens: counter(
                "tenon_engine_computed_tokens_total",
                "Tokens put through the model: prompts, answers and what had to be computed anew",
            )?,
            generated_tokens: counter("tenon_engine_generated_tokens_total", "Tokens of answers")?,
            prefix_lookup_tokens: counter(
                "tenon_engine_prefix_lookup_tokens_total",
                "Tokens of prompts whose longest stored prefix was looked for",
            )?,
            cached_tokens: counter(
                "tenon_engine_cached_tokens_total",
                "Tokens of prompts that were stored already",
            )?,
            drafted_tokens: counter(
                "tenon_engine_drafted_tokens_total",
                "Tokens put through the model on trial",
            )?,
            accepted_tokens: counter(
                "tenon_engine_accepted_tokens_total",
                "Tokens of drafts that turned out right",
            )?,
            preemptions: counter(
                "tenon_engine_preemptions_total",
                "Sequences put back to be computed anew",
            )?,
            running: gauge("tenon_engine_running_sequences", "Sequences that run")?,
            waiting: gauge("tenon_engine_waiting_sequences", "Sequences that wait")?,
            cached_prefixes: gauge(
                "tenon_engine_kept_sequences",
                "Cached prefixes: finished sequences whose KV serves prompts that begin alike",
            )?,
            kv_used_tokens: gauge(
                "tenon_engine_kv_used_tokens",
                "Tokens in the KV pool, of running sequences and cached prefixes",
            )?,
            kv_running_tokens: gauge(
                "tenon_engine_kv_running_tokens",
                "Tokens in the KV pool that running sequences use",
            )?,
            kv_total_tokens: gauge(
                "tenon_engine_kv_total_tokens",
                "Size of the KV pool in tokens",
            )?,
            decode_threads: gauge(
                "tenon_engine_decode_threads",
                "Threads that compute steps with one token for each sequence",
            )?,
            prefill_threads: gauge(
                "tenon_engine_prefill_threads",
                "Threads that compute larger steps",
            )?,
            thread_switches: counter(
                "tenon_engine_thread_switches_total",
                "Times that other threads became the faster ones",
            )?,
            _shown: None,
        })
    }

    /// The same metrics. They stay in `/metrics` until their last clone is dropped.
    pub fn shown_by(self, part: ModelPart) -> Self {
        Self {
            _shown: Some(Arc::new(part)),
            ..self
        }
    }

    /// Sets the numbers of threads that compute.
    pub fn set_threads(&self, decode: u32, prefill: u32) {
        self.decode_threads.set(decode.into());
        self.prefill_threads.set(prefill.into());
    }

    /// The same metrics for another engine of the model, which has its own parts of the gauges.
    pub fn of_another_engine(&self) -> Self {
        let mut metrics = self.clone();
        for gauge in metrics.gauges() {
            *gauge = PartGauge::new(gauge.0.sum.clone());
        }
        metrics
    }

    fn gauges(&mut self) -> [&mut PartGauge; 8] {
        [
            &mut self.running,
            &mut self.waiting,
            &mut self.cached_prefixes,
            &mut self.kv_used_tokens,
            &mut self.kv_running_tokens,
            &mut self.kv_total_tokens,
            &mut self.decode_threads,
            &mut self.prefill_threads,
        ]
    }

    /// Sets this engine's parts of the gauges to 0: nothing runs, waits or is stored any more.
    pub fn ended(&mut self) {
        self.gauges().into_iter().for_each(|gauge| gauge.set(0));
    }
}

/// One engine's part of a gauge that shows the sum of all parts. A dropped part counts as 0.
#[derive(Clone)]
pub struct PartGauge(Arc<GaugePart>);

struct GaugePart {
    sum: IntGauge,
    mine: AtomicI64,
}

impl PartGauge {
    fn new(sum: IntGauge) -> Self {
        let mine = AtomicI64::new(0);
        Self(Arc::new(GaugePart { sum, mine }))
    }

    /// The value of this part.
    pub fn get(&self) -> i64 {
        self.0.mine.load(Ordering::Relaxed)
    }

    /// Sets this part.
    pub fn set(&self, value: i64) {
        self.0.set(value);
    }
}

impl GaugePart {
    fn set(&self, value: i64) {
        let before = self.mine.swap(value, Ordering::Relaxed);
        self.sum.add(value - before);
    }
}

impl Drop for GaugePart {
    fn drop(&mut self) {
        self.set(0);
    }
}

fn opts(name: &str, help: &str, model: &str) -> Opts {
    Opts::new(name, help).const_label("model", model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_show_the_sum_of_the_engines_that_live() {
        let registry = Registry::new();
        let old = EngineMetrics::register(&registry, "m").unwrap();
        let new = old.of_another_engine();
        let sum = old.running.0.sum.clone();
        old.running.set(3);
        new.running.set(2);
        old.running.set(1);
        assert_eq!(sum.get(), 3);
        drop(old);
        assert_eq!(sum.get(), 2);
        new.clone().ended();
        assert_eq!(sum.get(), 0);
    }
}
