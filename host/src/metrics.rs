//! The metrics of requests. Engine, grammars and connections register their own counters in the same registry.

use std::time::{Duration, Instant};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector, exponential_buckets,
};
use tenon_plugin_api::ModelInfo;

use crate::telemetry;

/// The metrics of the whole server.
#[derive(Clone)]
pub struct Metrics {
    /// The registry of everything that `/metrics` shows.
    pub registry: Registry,
    requests: IntCounterVec,
    prompt_tokens: IntCounterVec,
    completion_tokens: IntCounterVec,
    first_token_seconds: HistogramVec,
    generation_seconds: HistogramVec,
    requantize_seconds: HistogramVec,
    level: IntGaugeVec,
    weight_bytes: IntGaugeVec,
}

impl Metrics {
    /// Creates and registers the metrics.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            registered(
                &registry,
                IntCounterVec::new(Opts::new(name, help), labels)?,
            )
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
        };
        let seconds = |name: &str, help: &str, labels: &[&str]| {
            // From a millisecond to more than half an hour.
            let buckets = exponential_buckets(0.001, 2.0, 22)?;
            let options = HistogramOpts::new(name, help).buckets(buckets);
            registered(&registry, HistogramVec::new(options, labels)?)
        };
        registered(&registry, telemetry::lost_lines().clone())?;
        Ok(Self {
            requests: counter(
                "tenon_http_requests_total",
                "HTTP requests answered",
                &["route", "status"],
            )?,
            prompt_tokens: counter(
                "tenon_prompt_tokens_total",
                "Tokens of accepted prompts",
                &["model"],
            )?,
            completion_tokens: counter(
                "tenon_completion_tokens_total",
                "Tokens of answers",
                &["model"],
            )?,
            first_token_seconds: seconds(
                "tenon_time_to_first_token_seconds",
                "From an accepted request to its first token",
                &["model"],
            )?,
            generation_seconds: seconds(
                "tenon_generation_seconds",
                "From an accepted request to its end: finished, failed or cancelled",
                &["model", "outcome"],
            )?,
            requantize_seconds: seconds(
                "tenon_requantize_seconds",
                "From an accepted change of a model's level to its end: finished or failed",
                &["model", "outcome"],
            )?,
            level: gauge(
                "tenon_model_level",
                "1 for the level that the model is at",
                &["model", "level"],
            )?,
            weight_bytes: gauge(
                "tenon_model_weight_bytes",
                "Bytes of the model's weights",
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

    /// Counts the tokens of a prompt.
    pub fn prompt(&self, model: &str, tokens: u64) {
        self.prompt_tokens
            .with_label_values(&[model])
            .inc_by(tokens);
    }

    /// Counts the tokens of a prompt and begins to measure its answer.
    pub fn meter(&self, model: &str, prompt_tokens: u32) -> Meter {
        self.prompt(model, prompt_tokens.into());
        Meter {
            completion_tokens: self.completion_tokens.with_label_values(&[model]),
            first_token_seconds: Some(self.first_token_seconds.with_label_values(&[model])),
            generation_seconds: self.generation_seconds.clone(),
            model: model.to_owned(),
            started: Instant::now(),
            outcome: "cancelled",
        }
    }

    /// Shows the level and size of a model that was just loaded.
    pub fn loaded(&self, model: &str, info: &ModelInfo) {
        let level = [model, info.quantization.as_str()];
        self.level.with_label_values(&level).set(1);
        let bytes = i64::try_from(info.weight_bytes).unwrap_or(i64::MAX);
        self.weight_bytes.with_label_values(&[model]).set(bytes);
    }

    /// Removes a level that a model no longer has.
    pub fn left_level(&self, model: &str, level: &str) {
        // An error only means that the level was not there.
        let _ = self.level.remove_label_values(&[model, level]);
    }

    /// Counts a change of a model's level, and how long it took.
    pub fn requantized(&self, model: &str, took: Duration, finished: bool) {
        let outcome = if finished { "finished" } else { "failed" };
        let histogram = self.requantize_seconds.with_label_values(&[model, outcome]);
        histogram.observe(took.as_secs_f64());
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Measures one answer, from its creation to its drop.
pub struct Meter {
    completion_tokens: IntCounter,
    /// None after the first token.
    first_token_seconds: Option<Histogram>,
    generation_seconds: HistogramVec,
    model: String,
    started: Instant,
    outcome: &'static str,
}

impl Meter {
    /// Counts a token of the answer.
    pub fn token(&mut self) {
        self.completion_tokens.inc();
        if let Some(first) = self.first_token_seconds.take() {
            first.observe(self.started.elapsed().as_secs_f64());
        }
    }

    /// Marks the answer as complete.
    pub fn finished(&mut self) {
        self.outcome = "finished";
    }

    /// Marks the answer as failed.
    pub fn failed(&mut self) {
        self.outcome = "failed";
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let labels = [self.model.as_str(), self.outcome];
        let seconds = self.started.elapsed().as_secs_f64();
        self.generation_seconds
            .with_label_values(&labels)
            .observe(seconds);
    }
}

/// Registers a metric and returns it.
pub fn registered<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: M,
) -> prometheus::Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(metrics: &Metrics, line: &str) {
        let text = metrics.render().unwrap();
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
        let mut meter = metrics.meter("m", 7);
        meter.token();
        meter.token();
        meter.finished();
        drop(meter);
        drop(metrics.meter("m", 1));
        check(&metrics, r#"tenon_prompt_tokens_total{model="m"} 8"#);
        check(&metrics, r#"tenon_completion_tokens_total{model="m"} 2"#);
        check(
            &metrics,
            r#"tenon_time_to_first_token_seconds_count{model="m"} 1"#,
        );
        for outcome in ["finished", "cancelled"] {
            let line =
                format!(r#"tenon_generation_seconds_count{{model="m",outcome="{outcome}"}} 1"#);
            check(&metrics, &line);
        }
    }
}
