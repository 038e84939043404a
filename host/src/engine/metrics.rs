//! What the model thread counts. Plain atomics: the thread never waits for a scrape.

use prometheus::{IntCounter, IntGauge, Opts, Registry};

use crate::metrics::registered;

/// Counters and gauges of one model.
#[derive(Clone)]
pub struct EngineMetrics {
    pub steps: IntCounter,
    pub computed_tokens: IntCounter,
    pub generated_tokens: IntCounter,
    pub cached_tokens: IntCounter,
    pub drafted_tokens: IntCounter,
    pub accepted_tokens: IntCounter,
    pub preemptions: IntCounter,
    pub running: IntGauge,
    pub waiting: IntGauge,
    pub kept: IntGauge,
    pub kv_used_tokens: IntGauge,
    pub kv_total_tokens: IntGauge,
    pub decode_threads: IntGauge,
    pub prefill_threads: IntGauge,
    pub thread_switches: IntCounter,
}

impl EngineMetrics {
    /// Makes the metrics of `model` and registers them.
    pub fn register(registry: &Registry, model: &str) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| {
            registered(registry, IntCounter::with_opts(opts(name, help, model))?)
        };
        let gauge = |name: &str, help: &str| {
            registered(registry, IntGauge::with_opts(opts(name, help, model))?)
        };
        Ok(Self {
            steps: counter("tenon_engine_steps_total", "Forwards")?,
            computed_tokens: counter(
                "tenon_engine_computed_tokens_total",
                "Tokens put through the model: prompts, answers and what had to be computed anew",
            )?,
            generated_tokens: counter("tenon_engine_generated_tokens_total", "Tokens of answers")?,
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
            kept: gauge(
                "tenon_engine_kept_sequences",
                "Finished sequences whose KV is kept for prompts that begin alike",
            )?,
            kv_used_tokens: gauge(
                "tenon_engine_kv_used_tokens",
                "Tokens in the KV pool, of running and of kept sequences",
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
        })
    }

    /// Shows how many threads compute.
    pub fn set_threads(&self, decode: u32, prefill: u32) {
        self.decode_threads.set(decode.into());
        self.prefill_threads.set(prefill.into());
    }

    /// Shows that nothing runs, waits or is stored any more.
    pub fn ended(&self) {
        let gauges = [
            &self.running,
            &self.waiting,
            &self.kept,
            &self.kv_used_tokens,
        ];
        gauges.iter().for_each(|gauge| gauge.set(0));
        self.kv_total_tokens.set(0);
    }
}

fn opts(name: &str, help: &str, model: &str) -> Opts {
    Opts::new(name, help).const_label("model", model)
}
