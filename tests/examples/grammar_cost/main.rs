//! What grammars cost: bytes of valid output per second with one thread, constrained and unconstrained in turns, then with
//! eight clients. Where the path of a llama-server is given, of its JSON schemas too.
//!
//!     cargo run --release -p tenon-tests --example grammar_cost -- [ROUNDS] [LLAMA_SERVER]

mod peer;
mod schemas;

use std::{env, time::Instant};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, ServerOptions, text};

use crate::{peer::Peer, schemas::schemas};

const MAX_TOKENS: u32 = 256;
const STREAMS: u64 = 8;

#[tokio::main]
async fn main() {
    let rounds = env::args()
        .nth(1)
        .map_or(3, |rounds| rounds.parse().expect("a number"));
    let mut server = ServerOptions::smollm2().start();
    let tenon = server.client();
    let peer = env::args().nth(2).map(|path| Peer::start(&path));
    let other = peer.as_ref().map(|peer| &peer.client);
    if let Some(peer) = &peer {
        peer.wait_until_ready().await;
    }
    println!("valid bytes per second, {rounds} rounds in turns, 1 thread");
    println!(
        "{:<18}{:>8}{:>12}{:>12}{:>8}{:>10}{:>8}",
        "", "valid", "unconstr.", "constr.", "ratio", "llama", "ratio"
    );
    let regex = json!({"grammar": {"type": "regex", "value": "(.|\\n)*"}});
    for (name, schema) in schemas() {
        let wanted = json!({"response_format": {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}});
        let case = Case {
            name,
            wanted,
            schema: Some(schema),
            streams: 1,
        };
        case.run(&tenon, other, rounds).await;
    }
    let any = Case {
        name: "(.|\\n)*",
        wanted: regex.clone(),
        schema: None,
        streams: 1,
    };
    any.run(&tenon, None, rounds).await;
    let crowd = Case {
        name: "(.|\\n)*, 8 streams",
        wanted: regex,
        streams: STREAMS,
        schema: None,
    };
    crowd.run(&tenon, None, rounds).await;
    println!("masks: {}", masks(&tenon).await);
}

/// One line of the table.
struct Case {
    name: &'static str,
    /// What a constrained request has besides.
    wanted: Value,
    /// What makes an answer valid. None: it always is.
    schema: Option<Value>,
    streams: u64,
}

/// What came out of some requests.
#[derive(Default)]
struct Tally {
    valid_bytes: f64,
    seconds: f64,
    answers: u64,
    valid: u64,
}

impl Case {
    async fn run(&self, tenon: &Client, peer: Option<&Client>, rounds: u64) {
        let (mut free, mut bound, mut other) = <(Tally, Tally, Tally)>::default();
        // Grammars are compiled and kernels are warm before anything counts.
        self.measure(tenon, true, 0, &mut Tally::default()).await;
        for round in 1..=rounds {
            self.measure(tenon, false, round, &mut free).await;
            self.measure(tenon, true, round, &mut bound).await;
            if let Some(peer) = peer {
                self.measure(peer, true, round, &mut other).await;
            }
        }
        let (free, rate) = (free.rate(), bound.rate());
        let valid = format!("{}/{}", bound.valid, bound.answers);
        print!(
            "{:<18}{valid:>8}{free:>12.1}{rate:>12.1}{:>8.2}",
            self.name,
            rate / free
        );
        if peer.is_some() {
            let peer = other.rate();
            print!(
                "{peer:>10.1}{:>8.2} ({}/{} valid)",
                rate / peer,
                other.valid,
                other.answers
            );
        }
        println!();
    }

    async fn measure(&self, client: &Client, constrained: bool, round: u64, tally: &mut Tally) {
        let bodies: Vec<_> = (0..self.streams)
            .map(|at| self.body(constrained, round * STREAMS + at))
            .collect();
        let begun = Instant::now();
        let answers = bodies
            .iter()
            .map(|body| client.post("/v1/completions", body));
        let answers = join_all(answers).await;
        tally.seconds += begun.elapsed().as_secs_f64();
        for (status, answer) in answers {
            assert_eq!(status, StatusCode::OK, "{answer}");
            let text = text(&answer);
            tally.answers += 1;
            if !constrained || self.is_valid(text) {
                tally.valid += 1;
                tally.valid_bytes += text.len() as f64;
            }
        }
    }

    fn body(&self, constrained: bool, seed: u64) -> Value {
        let mut body = json!({
            "prompt": format!("A JSON document ({}) of a small company in Leipzig:\n\n", self.name),
            "max_tokens": MAX_TOKENS, "temperature": 0.8, "seed": seed,
        });
        if let (true, Some(fields), Some(wanted)) =
            (constrained, body.as_object_mut(), self.wanted.as_object())
        {
            fields.extend(wanted.clone());
            // The peer's name for it on this route, which nobody else knows.
            fields.extend(
                self.schema
                    .clone()
                    .map(|schema| ("json_schema".to_owned(), schema)),
            );
        }
        body
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
    fn rate(&self) -> f64 {
        self.valid_bytes / self.seconds
    }
}

/// Bounds of the median and of the 99th percentile, from the buckets of the metric.
async fn masks(client: &Client) -> String {
    let page = client.get_text("/metrics").await;
    let name = "tenon_grammar_mask_seconds_bucket";
    let buckets = page.lines().filter(|line| line.starts_with(name));
    let buckets: Vec<(String, f64)> = buckets
        .filter_map(|line| {
            let bound = line.split("le=\"").nth(1)?.split('"').next()?;
            let count = line.rsplit(' ').next()?.parse().ok()?;
            Some((bound.to_owned(), count))
        })
        .collect();
    let total = buckets.last().map_or(0.0, |(_, count)| *count);
    let quantile = |part: f64| {
        let found = buckets.iter().find(|(_, count)| *count >= part * total);
        found.map_or("?", |(bound, _)| bound.as_str())
    };
    format!(
        "{total} computed, p50 ≤ {} s, p99 ≤ {} s",
        quantile(0.5),
        quantile(0.99)
    )
}
