//! What grammars cost: bytes of valid output per second, constrained and unconstrained in turns.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::{join, join_all};
use reqwest::StatusCode;
use serde_json::{Map, Value, json};
use tenon_tests::{Client, Event, Events, text};

use crate::table::percentile;

const ROUTE: &str = "/v1/completions";
const MAX_TOKENS: u32 = 256;
/// Streams that a large schema meets, and the steps of each before it comes.
const STREAMS: usize = 4;
const USUAL_STEPS: usize = 60;

/// Something to be written under a grammar.
pub struct Case {
    pub name: &'static str,
    /// Fields of a constrained request.
    pub fields: Value,
    /// What makes an answer valid. None: it always is.
    pub schema: Option<Value>,
    pub clients: u32,
}

/// What came out of some requests.
#[derive(Default)]
pub struct Tally {
    valid_bytes: f64,
    seconds: f64,
    answers: u32,
    valid: u32,
}

impl Case {
    pub fn schema(name: &'static str, schema: Value) -> Self {
        let json_schema = json!({"name": name, "schema": schema});
        Self {
            name,
            fields: json!({
                "response_format": {"type": "json_schema", "json_schema": json_schema},
                // The same for llama-server on this route. Nobody else knows it.
                "json_schema": schema,
            }),
            schema: Some(schema),
            clients: 1,
        }
    }

    /// A grammar that allows everything.
    pub fn anything(name: &'static str, clients: u32) -> Self {
        Self {
            name,
            fields: json!({"grammar": {"type": "regex", "value": "(.|\\n)*"}}),
            schema: None,
            clients,
        }
    }

    /// Adds what a server writes in one round.
    pub async fn measure(&self, client: &Client, constrained: bool, round: u32, tally: &mut Tally) {
        let seeds = (0..self.clients).map(|at| round * self.clients + at);
        let bodies: Vec<_> = seeds.map(|seed| self.body(constrained, seed)).collect();
        let begun = Instant::now();
        let answers = bodies.iter().map(|body| client.post(ROUTE, body));
        let answers = join_all(answers).await;
        tally.seconds += begun.elapsed().as_secs_f64();
        for (status, answer) in answers {
            assert_eq!(status, StatusCode::OK, "{answer}");
            tally.add(text(&answer), !constrained || self.is_valid(text(&answer)));
        }
    }

    fn body(&self, constrained: bool, seed: u32) -> Value {
        let prompt = format!(
            "A JSON document ({}) of a small company in Leipzig:\n\n",
            self.name
        );
        let mut body =
            json!({"prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0.8, "seed": seed});
        if constrained && let (Some(body), Some(fields)) = (body.as_object_mut(), self.fields()) {
            body.extend(fields);
        }
        body
    }

    fn fields(&self) -> Option<Map<String, Value>> {
        self.fields.as_object().cloned()
    }

    fn is_valid(&self, text: &str) -> bool {
        let Some(schema) = &self.schema else {
            return true;
        };
        let validator = jsonschema::validator_for(schema).expect("a schema");
        serde_json::from_str(text).is_ok_and(|value: Value| validator.is_valid(&value))
    }
}

impl Tally {
    fn add(&mut self, text: &str, is_valid: bool) {
        self.answers += 1;
        if is_valid {
            self.valid += 1;
            self.valid_bytes += text.len() as f64;
        }
    }

    /// Valid bytes per second.
    pub fn rate(&self) -> f64 {
        self.valid_bytes / self.seconds
    }

    /// Percent of the answers. NaN of nothing.
    pub fn valid(&self) -> f64 {
        100.0 * f64::from(self.valid) / f64::from(self.answers)
    }
}

/// The 99th percentile of the gaps between texts, in milliseconds, of streams that run: by themselves, and while a schema that
/// is new to the server is compiled and followed.
pub async fn gaps_beside(client: &Client, schema: &Value) -> [f64; 2] {
    let request = json!({"prompt": "A long story:\n\nOnce upon a time", "temperature": 1.2,
        "max_tokens": 1000, "ignore_eos": true});
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(client.open(ROUTE, &request).await);
    }
    let usual = streams
        .iter_mut()
        .map(|stream| gaps(stream, |count| count < USUAL_STEPS));
    let usual = join_all(usual).await.concat();
    let answered = AtomicBool::new(false);
    let go_on = |_| !answered.load(Ordering::Relaxed);
    let beside = join_all(streams.iter_mut().map(|stream| gaps(stream, go_on)));
    let case = Case::schema("catalogue", schema.clone());
    let answer = async {
        let (status, answer) = client.post(ROUTE, &case.body(true, 1)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answered.store(true, Ordering::Relaxed);
    };
    let (beside, ()) = join(beside, answer).await;
    [usual, beside.concat()].map(|gaps| percentile(&gaps, 0.99))
}

/// Milliseconds between the texts of a stream, as long as their count is good for more.
async fn gaps(stream: &mut Events, go_on: impl Fn(usize) -> bool) -> Vec<f64> {
    let (mut last, mut gaps) = (None, Vec::new());
    while go_on(gaps.len()) {
        match stream.next().await {
            Some(Event::Chunk(chunk)) if !text(&chunk).is_empty() => {
                let now = Instant::now();
                gaps.extend(last.map(|last| now - last));
                last = Some(now);
            }
            Some(_) => {}
            None => break,
        }
    }
    let millis = |gap: Duration| gap.as_secs_f64() * 1e3;
    gaps.into_iter().map(millis).collect()
}

/// Bounds of the median and of the 99th percentile of the time that a mask takes, in seconds, from the buckets of the metric.
pub async fn mask_seconds(client: &Client) -> [f64; 2] {
    let page = client.get_text("/metrics").await;
    let name = "tenon_grammar_mask_seconds_bucket";
    let buckets = page.lines().filter(|line| line.starts_with(name));
    let buckets: Vec<(f64, f64)> = buckets
        .filter_map(|line| {
            let bound = line.split("le=\"").nth(1)?.split('"').next()?;
            Some((bound.parse().ok()?, line.rsplit(' ').next()?.parse().ok()?))
        })
        .collect();
    let total = buckets.last().map_or(0.0, |(_, count)| *count);
    [0.5, 0.99].map(|part| {
        let found = buckets.iter().find(|(_, count)| *count >= part * total);
        found.map_or(f64::NAN, |(bound, _)| *bound)
    })
}
