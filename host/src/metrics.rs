//! The server's metrics. Requests and answers are counted here. Connections register their own counters in the same registry.
//! Models count in registries of their own (`metrics/models.rs`).

mod answers;
mod figures;
mod gauges;
mod history;
mod models;
mod open_metrics;
mod vectors;
mod vllm;

use std::{sync::Arc, time::Duration};

use prometheus::{
    HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Registry, TEXT_FORMAT, TextEncoder,
    proto::{LabelPair, Metric},
};
use tenon_plugin_api::ModelInfo;

use crate::{keys::Account, telemetry};

use answers::AnswerMetrics;
pub use answers::{AnswerOutcome, Meter};
pub use figures::Figures;
pub use gauges::Gauges;
use history::History;
pub use history::{SPAN as HISTORY_SPAN, Slice, Totals};
pub use models::{ModelMetrics, ModelPart};
use open_metrics::{OPEN_METRICS, OpenMetrics};
pub use vectors::registered;
use vectors::{Vectors, keep, sum};

/// The metrics of the whole server.
#[derive(Clone)]
pub struct Metrics {
    /// The registry of everything that `/metrics` shows.
    pub registry: Registry,
    /// The metrics of models.
    pub models: ModelMetrics,
    /// Samples of the counters from the last minutes.
    pub history: History,
    requests: IntCounterVec,
    key_requests: IntCounterVec,
    key_tokens: IntCounterVec,
    prompt_tokens: IntCounterVec,
    prompt_lengths: HistogramVec,
    answers: AnswerMetrics,
    requantize_seconds: HistogramVec,
    level: IntGaugeVec,
    weight_bytes: IntGaugeVec,
    worker_restarts: IntCounterVec,
    worker_bytes: IntGaugeVec,
}

/// A text format of metrics.
#[derive(Clone, Copy)]
pub enum MetricsFormat {
    Prometheus,
    OpenMetrics,
}

impl MetricsFormat {
    /// The content type of a text in this format.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => TEXT_FORMAT,
            Self::OpenMetrics => OPEN_METRICS,
        }
    }
}

impl Metrics {
    /// Creates and registers the metrics.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let vectors = Vectors(&registry);
        registered(&registry, telemetry::lost_lines().clone())?;
        Ok(Self {
            models: registered(&registry, ModelMetrics::default())?,
            history: History::default(),
            requests: vectors.counters(
                "tenon_http_requests_total",
                "HTTP requests answered",
                &["route", "status"],
            )?,
            key_requests: vectors.counters(
                "tenon_key_requests_total",
                "HTTP requests answered, by the name of their key",
                &["key", "status"],
            )?,
            key_tokens: vectors.counters(
                "tenon_key_tokens_total",
                "Tokens of prompts and answers of requests that ended, by the name of their key",
                &["key", "kind"],
            )?,
            prompt_tokens: vectors.counters(
                "tenon_prompt_tokens_total",
                "Tokens of accepted prompts",
                &["model"],
            )?,
            prompt_lengths: vectors.lengths(
                "tenon_request_prompt_tokens",
                "Tokens of an accepted prompt",
                &["model"],
            )?,
            answers: AnswerMetrics::register(&registry)?,
            requantize_seconds: vectors.seconds(
                "tenon_requantize_seconds",
                "From an accepted change of a model's level to its end: finished or failed",
                &["model", "outcome"],
            )?,
            level: vectors.gauges(
                "tenon_model_level",
                "1 for the level that the model is at",
                &["model", "level"],
            )?,
            weight_bytes: vectors.gauges(
                "tenon_model_weight_bytes",
                "Bytes of the model's weights",
                &["model"],
            )?,
            worker_restarts: vectors.counters(
                "tenon_worker_restarts_total",
                "Starts of a model's worker after the one before had ended",
                &["model"],
            )?,
            worker_bytes: vectors.gauges(
                "tenon_worker_resident_bytes",
                "Bytes of memory that the model's worker uses",
                &["model"],
            )?,
            registry,
        })
    }

    /// Counts an answered HTTP request. `route` is the route's pattern, so that the number of series stays small.
    pub fn answered(&self, route: &str, status: u16) {
        let status = status.to_string();
        self.requests.with_label_values(&[route, &status]).inc();
    }

    /// Counts an ended request and its tokens under the name of its key. A request without a key is not counted. Only configured
    /// keys have names, so the number of series stays small.
    pub fn used(&self, account: &Account, status: u16) {
        let Some(key) = account.key() else {
            return;
        };
        let (name, status) = (key.name.as_str(), status.to_string());
        self.key_requests.with_label_values(&[name, &status]).inc();
        for (kind, tokens) in [
            ("prompt", account.prompt_tokens()),
            ("completion", account.completion_tokens()),
        ] {
            let counter = self.key_tokens.with_label_values(&[name, kind]);
            counter.inc_by(tokens);
        }
    }

    /// Counts the tokens of a prompt, also for the account of its request.
    pub fn prompt(&self, model: &str, tokens: usize, account: Option<&Account>) {
        if let Some(account) = account {
            account.add_prompt(tokens as u64);
        }
        self.prompt_tokens
            .with_label_values(&[model])
            .inc_by(tokens as u64);
        self.prompt_lengths
            .with_label_values(&[model])
            .observe(tokens as f64);
    }

    /// Begins to measure an answer, for the account of its request.
    pub fn meter(&self, model: &str, account: Option<Arc<Account>>) -> Meter {
        self.answers.meter(model, account)
    }

    /// Shows the level and size of a model that was just loaded.
    pub fn loaded(&self, model: &str, info: &ModelInfo) {
        let level = [model, info.quantization.as_str()];
        self.level.with_label_values(&level).set(1);
        let bytes = i64::try_from(info.weight_bytes).unwrap_or(i64::MAX);
        self.weight_bytes.with_label_values(&[model]).set(bytes);
    }

    /// Removes the level of a model that is no longer loaded, and sets its size to 0.
    pub fn unloaded(&self, model: &str, info: &ModelInfo) {
        self.left_level(model, &info.quantization);
        self.weight_bytes.with_label_values(&[model]).set(0);
    }

    /// Removes a level that a model no longer has.
    pub fn left_level(&self, model: &str, level: &str) {
        // An error only means that the level was not there.
        let _ = self.level.remove_label_values(&[model, level]);
    }

    /// The counter of the restarts of a model's worker.
    pub fn worker_restarts(&self, model: &str) -> IntCounter {
        self.worker_restarts.with_label_values(&[model])
    }

    /// Shows the bytes of memory that a model's worker uses. None: the model has no worker.
    pub fn worker_uses(&self, model: &str, bytes: Option<u64>) {
        match bytes {
            Some(bytes) => {
                let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                self.worker_bytes.with_label_values(&[model]).set(bytes);
            }
            None => {
                // An error only means that the metric did not exist.
                let _ = self.worker_bytes.remove_label_values(&[model]);
            }
        }
    }

    /// Removes the metrics of all models and keys but these.
    pub fn keep(&self, models: &[&str], keys: &[&str]) {
        for counters in [&self.prompt_tokens, &self.worker_restarts] {
            keep(counters, "model", models);
        }
        for histograms in [&self.prompt_lengths, &self.requantize_seconds] {
            keep(histograms, "model", models);
        }
        for gauges in [&self.level, &self.weight_bytes, &self.worker_bytes] {
            keep(gauges, "model", models);
        }
        for counters in [&self.key_requests, &self.key_tokens] {
            keep(counters, "key", keys);
        }
        self.answers.keep(models);
        self.models.keep(models);
    }

    /// Counts a change of a model's level, and how long it took.
    pub fn requantized(&self, model: &str, took: Duration, finished: bool) {
        let outcome = if finished { "finished" } else { "failed" };
        let histogram = self.requantize_seconds.with_label_values(&[model, outcome]);
        histogram.observe(took.as_secs_f64());
    }

    /// Takes samples for the history. Never returns.
    pub async fn watch(&self) {
        self.history.watch(|| self.totals()).await;
    }

    fn totals(&self) -> Totals {
        let has_failed = |metric: &Metric| {
            let mut labels = metric.get_label().iter();
            labels.any(|label| label.name() == "status" && label.value().starts_with('5'))
        };
        Totals {
            prompt_tokens: sum(&self.prompt_tokens, |_| true),
            completion_tokens: self.answers.all_tokens(),
            requests: sum(&self.requests, |_| true),
            failures: sum(&self.requests, has_failed),
        }
    }

    /// The gauges now. Those of a worker are the ones that it sent last.
    pub fn gauges(&self) -> Gauges {
        Gauges::of_registry(&self.registry)
    }

    /// All metrics; a metric that vLLM also has appears under both names. With a `key`, the metrics of other keys are left out.
    pub fn render(&self, format: MetricsFormat, key: Option<&str>) -> prometheus::Result<String> {
        let mut families = self.registry.gather();
        if let Some(key) = key {
            let is_of_other = |label: &LabelPair| label.name() == "key" && label.value() != key;
            for family in &mut families {
                let metrics = family.mut_metric();
                metrics.retain(|metric| !metric.get_label().iter().any(is_of_other));
            }
            families.retain(|family| !family.get_metric().is_empty());
        }
        families.extend(vllm::families(&families));
        match format {
            MetricsFormat::Prometheus => TextEncoder::new().encode_to_string(&families),
            MetricsFormat::OpenMetrics => Ok(OpenMetrics(&families).to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(metrics: &Metrics, line: &str) {
        let text = metrics.render(MetricsFormat::Prometheus, None).unwrap();
        assert!(text.lines().any(|l| l == line), "no {line} in:\n{text}");
    }

    #[test]
    fn requests_are_counted_by_route_and_status() {
        let metrics = Metrics::new().unwrap();
        metrics.answered("/v1/models", 200);
        metrics.answered("/v1/models", 200);
        check(
            &metrics,
            r#"tenon_http_requests_total{route="/v1/models",status="200"} 2"#,
        );
    }

    #[test]
    fn an_answer_is_measured_until_it_is_dropped() {
        let metrics = Metrics::new().unwrap();
        metrics.prompt("m", 7, None);
        metrics.prompt("m", 1, None);
        let mut meter = metrics.meter("m", None);
        meter.queued(Duration::from_secs(3));
        meter.token();
        meter.token();
        meter.ended(AnswerOutcome::Full);
        drop(meter);
        drop(metrics.meter("m", None));
        for line in [
            r#"tenon_prompt_tokens_total{model="m"} 8"#,
            r#"tenon_request_prompt_tokens_bucket{model="m",le="4"} 1"#,
            r#"tenon_completion_tokens_total{model="m"} 2"#,
            r#"tenon_request_completion_tokens_sum{model="m"} 2"#,
            r#"tenon_queue_seconds_sum{model="m"} 3"#,
            r#"tenon_time_to_first_token_seconds_count{model="m"} 1"#,
            r#"tenon_inter_token_seconds_count{model="m"} 1"#,
            r#"tenon_time_per_token_seconds_count{model="m"} 1"#,
            r#"tenon_generation_seconds_count{model="m",outcome="finished"} 1"#,
            r#"tenon_generation_seconds_count{model="m",outcome="cancelled"} 1"#,
            r#"vllm:e2e_request_latency_seconds_count{engine="0",model_name="m"} 1"#,
            r#"vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 1"#,
            r#"vllm:request_success_total{engine="0",finished_reason="abort",model_name="m"} 1"#,
        ] {
            check(&metrics, line);
        }
    }

    #[test]
    fn what_is_neither_served_nor_a_key_any_more_is_removed() {
        let metrics = Metrics::new().unwrap();
        for model in ["new", "old"] {
            metrics.prompt(model, 7, None);
            drop(metrics.meter(model, None));
            metrics.loaded(model, &ModelInfo::default());
            metrics.worker_restarts(model).inc();
            metrics.worker_uses(model, Some(1));
            metrics.requantized(model, Duration::from_secs(1), true);
        }
        for key in ["new", "old"] {
            metrics.key_requests.with_label_values(&[key, "200"]).inc();
            let tokens = metrics.key_tokens.with_label_values(&[key, "prompt"]);
            tokens.inc();
        }
        let count = |text: &str, name| text.matches(&format!("=\"{name}\"")).count();
        let before = metrics.render(MetricsFormat::Prometheus, None).unwrap();
        metrics.keep(&["new"], &["new"]);
        let after = metrics.render(MetricsFormat::Prometheus, None).unwrap();
        assert!(count(&before, "old") > 100, "{before}");
        assert_eq!(count(&after, "old"), 0, "{after}");
        assert_eq!(count(&after, "new"), count(&before, "new"));
    }

    #[test]
    fn a_metric_without_samples_is_left_out() {
        let metrics = Metrics::new().unwrap();
        drop(metrics.meter("m", None));
        for format in [MetricsFormat::Prometheus, MetricsFormat::OpenMetrics] {
            let text = metrics.render(format, None).unwrap();
            assert!(text.contains("tenon_generation_seconds_count"), "{text}");
            assert!(!text.contains("vllm:e2e_request_latency_seconds"), "{text}");
        }
    }
}
