//! The metrics of the GenAI conventions. Names, units and buckets are those of
//! <https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/>.

use std::time::Duration;

use opentelemetry::{
    KeyValue,
    metrics::{Histogram, Meter},
};

const DURATION_BUCKETS: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
const FIRST_TOKEN_BUCKETS: [f64; 16] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
const PER_TOKEN_BUCKETS: [f64; 13] = [
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
];

/// The metrics of requests to models.
pub struct Instruments {
    request_duration: Histogram<f64>,
    time_to_first_token: Histogram<f64>,
    time_per_output_token: Histogram<f64>,
    token_usage: Histogram<u64>,
}

impl Instruments {
    pub fn new(meter: &Meter) -> Self {
        let seconds = |name, description, buckets: &[f64]| {
            let histogram = meter.f64_histogram(name).with_unit("s");
            histogram
                .with_description(description)
                .with_boundaries(buckets.to_vec())
                .build()
        };
        let powers_of_four = (0..14).map(|power| 4_f64.powi(power)).collect();
        Self {
            request_duration: seconds(
                "gen_ai.server.request.duration",
                "Generative AI server request duration such as time-to-last byte or last output token",
                &DURATION_BUCKETS,
            ),
            time_to_first_token: seconds(
                "gen_ai.server.time_to_first_token",
                "Time to generate first token for successful responses",
                &FIRST_TOKEN_BUCKETS,
            ),
            time_per_output_token: seconds(
                "gen_ai.server.time_per_output_token",
                "Time per output token generated after the first token for successful responses",
                &PER_TOKEN_BUCKETS,
            ),
            token_usage: meter
                .u64_histogram("gen_ai.client.token.usage")
                .with_unit("{token}")
                .with_description("Number of input and output tokens used")
                .with_boundaries(powers_of_four)
                .build(),
        }
    }

    /// Records a request, from the arrival of its head to its end.
    pub fn request(&self, time: Duration, labels: &[KeyValue]) {
        self.request_duration.record(time.as_secs_f64(), labels);
    }

    /// Records the time from the arrival of a request's head to the first token of an answer.
    pub fn first_token(&self, time: Duration, labels: &[KeyValue]) {
        self.time_to_first_token.record(time.as_secs_f64(), labels);
    }

    /// Records the mean time between the tokens of an answer.
    pub fn per_token(&self, time: Duration, labels: &[KeyValue]) {
        let seconds = time.as_secs_f64();
        self.time_per_output_token.record(seconds, labels);
    }

    /// Records the tokens of a request. `kind` is `input` or `output`.
    pub fn tokens(&self, kind: &'static str, tokens: u64, labels: &[KeyValue]) {
        let kind = KeyValue::new("gen_ai.token.type", kind);
        self.token_usage.record(tokens, &[labels, &[kind]].concat());
    }
}
