//! The metrics of answers. The tasks that read answers record them, never the model threads.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, Registry};

use super::vectors::{Vectors, keep, sum};
use crate::keys::{Account, AnswerEnd};

/// The metrics of all models' answers.
#[derive(Clone)]
pub struct AnswerMetrics {
    tokens: IntCounterVec,
    ends: IntCounterVec,
    lengths: HistogramVec,
    queue_seconds: HistogramVec,
    first_token_seconds: HistogramVec,
    inter_token_seconds: HistogramVec,
    per_token_seconds: HistogramVec,
    seconds: HistogramVec,
}

impl AnswerMetrics {
    /// Creates and registers the metrics.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let vectors = Vectors(registry);
        Ok(Self {
            tokens: vectors.counters(
                "tenon_completion_tokens_total",
                "Tokens of answers",
                &["model"],
            )?,
            ends: vectors.counters(
                "tenon_answers_total",
                "Answers that ended: by a stop, by their length, by an abort or by an error",
                &["model", "finished_reason"],
            )?,
            lengths: vectors.lengths(
                "tenon_request_completion_tokens",
                "Tokens of a finished answer",
                &["model"],
            )?,
            queue_seconds: vectors.seconds(
                "tenon_queue_seconds",
                "From an accepted request to the start of its computation",
                &["model"],
            )?,
            first_token_seconds: vectors.seconds(
                "tenon_time_to_first_token_seconds",
                "From an accepted request to its first token",
                &["model"],
            )?,
            inter_token_seconds: vectors.seconds(
                "tenon_inter_token_seconds",
                "From a token of an answer to the next one; drafted tokens come together",
                &["model"],
            )?,
            per_token_seconds: vectors.seconds(
                "tenon_time_per_token_seconds",
                "A finished answer's mean time from a token to the next one",
                &["model"],
            )?,
            seconds: vectors.seconds(
                "tenon_generation_seconds",
                "From an accepted request to its end: finished, failed or cancelled",
                &["model", "outcome"],
            )?,
        })
    }

    /// The tokens of all answers.
    pub fn all_tokens(&self) -> f64 {
        sum(&self.tokens, |_| true)
    }

    /// Removes the metrics of all models but these.
    pub fn keep(&self, models: &[&str]) {
        for counters in [&self.tokens, &self.ends] {
            keep(counters, "model", models);
        }
        for histograms in [
            &self.lengths,
            &self.queue_seconds,
            &self.first_token_seconds,
            &self.inter_token_seconds,
            &self.per_token_seconds,
            &self.seconds,
        ] {
            keep(histograms, "model", models);
        }
    }

    /// Begins to measure an answer, for the account of its request.
    pub fn meter(&self, model: &str, account: Option<Arc<Account>>) -> Meter {
        Meter {
            account,
            metrics: self.clone(),
            model: model.to_owned(),
            all_tokens: self.tokens.with_label_values(&[model]),
            inter_token_seconds: self.inter_token_seconds.with_label_values(&[model]),
            started: Instant::now(),
            tokens: 0,
            first_and_last: None,
            outcome: AnswerOutcome::Cancelled,
            ends_with_calls: false,
        }
    }
}

/// How an answer ended.
#[derive(Clone, Copy)]
pub enum AnswerOutcome {
    /// The model, a stop string or a grammar ended the answer.
    Stopped,
    /// The answer reached its greatest length.
    Full,
    Failed,
    Cancelled,
}

impl AnswerOutcome {
    /// The values of the labels `finished_reason`, in vLLM's words, and `outcome`.
    fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Stopped => ("stop", "finished"),
            Self::Full => ("length", "finished"),
            Self::Failed => ("error", "failed"),
            Self::Cancelled => ("abort", "cancelled"),
        }
    }
}

/// Measures one answer, from its creation to its drop. An answer without another outcome counts as cancelled.
pub struct Meter {
    account: Option<Arc<Account>>,
    metrics: AnswerMetrics,
    model: String,
    /// The tokens of all answers of the model.
    all_tokens: IntCounter,
    inter_token_seconds: Histogram,
    started: Instant,
    tokens: u32,
    /// When the first and the last token came.
    first_and_last: Option<(Instant, Instant)>,
    outcome: AnswerOutcome,
    ends_with_calls: bool,
}

impl Meter {
    /// Records how long the request waited until it was computed for the first time.
    pub fn queued(&self, time: Duration) {
        self.of_model(&self.metrics.queue_seconds)
            .observe(time.as_secs_f64());
    }

    /// Counts a token of the answer.
    pub fn token(&mut self) {
        self.all_tokens.inc();
        if let Some(account) = &self.account {
            account.add_token();
        }
        self.tokens += 1;
        let now = Instant::now();
        let first = match self.first_and_last {
            None => {
                let histogram = self.of_model(&self.metrics.first_token_seconds);
                histogram.observe((now - self.started).as_secs_f64());
                now
            }
            Some((first, last)) => {
                self.inter_token_seconds.observe((now - last).as_secs_f64());
                first
            }
        };
        self.first_and_last = Some((first, now));
    }

    /// The account of the answer's request.
    pub fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    /// Sets the answer's outcome.
    pub fn ended(&mut self, outcome: AnswerOutcome) {
        self.outcome = outcome;
    }

    /// Notes that tool calls are the reason for the answer's end.
    pub fn ended_with_calls(&mut self) {
        self.ends_with_calls = true;
    }

    /// The mean time from a token to the next one. None before the second token.
    fn per_token(&self) -> Option<Duration> {
        let (first, last) = self.first_and_last?;
        (self.tokens > 1).then(|| (last - first) / (self.tokens - 1))
    }

    /// How the answer ended, for the account of its request.
    fn end(&self, reason: &'static str) -> AnswerEnd {
        AnswerEnd {
            reason: match self.ends_with_calls {
                true => "tool_calls",
                false => reason,
            },
            first_token: self.first_and_last.map(|(first, _)| first),
            per_token: self.per_token(),
        }
    }

    fn of_model(&self, histograms: &HistogramVec) -> Histogram {
        histograms.with_label_values(&[self.model.as_str()])
    }

    fn record_finished(&self) {
        let metrics = &self.metrics;
        self.of_model(&metrics.lengths).observe(self.tokens.into());
        if let Some(mean) = self.per_token() {
            let histogram = self.of_model(&metrics.per_token_seconds);
            histogram.observe(mean.as_secs_f64());
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let (model, metrics) = (self.model.as_str(), &self.metrics);
        let (reason, outcome) = self.outcome.labels();
        if let Some(account) = &self.account {
            account.answers.add_end(self.end(reason));
        }
        metrics.ends.with_label_values(&[model, reason]).inc();
        let seconds = metrics.seconds.with_label_values(&[model, outcome]);
        seconds.observe(self.started.elapsed().as_secs_f64());
        if let AnswerOutcome::Stopped | AnswerOutcome::Full = self.outcome {
            self.record_finished();
        }
    }
}
