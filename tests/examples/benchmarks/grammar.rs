//! The cost of grammars: bytes of valid output per second, with constrained and unconstrained requests in turns.

use std::time::Instant;

use futures_util::future::{join, join_all};
use reqwest::StatusCode;
use serde_json::{Map, Value, json};
use tenon_tests::{Client, Event, Events, text};

use crate::{
    Bench,
    measurements::NO_END,
    schemas,
    table::{Table, median, percentile},
};

const ROUTE: &str = "/v1/completions";
/// Enough tokens for the longest text.
const MAX_TOKENS: u32 = 700;
/// Tokens of each text without a schema. No such text ends earlier, so all of them are the same work.
const ENDLESS_TOKENS: u32 = 200;
/// Answers of each kind in a round. Free text gets more, because its lengths and words differ most.
const ANSWERS: u32 = 4;
const FREE_ANSWERS: u32 = 16;
/// Number of streams that run while a large schema arrives, and the gaps of each stream that are evaluated.
const STREAMS: usize = 4;
const WINDOW: usize = 200;

/// A text to be written under a grammar.
struct Case {
    name: &'static str,
    /// Fields of a constrained request.
    fields: Value,
    /// The schema of valid answers. None: every answer is valid.
    schema: Option<Value>,
    clients: u32,
    /// Answers of each client in a round.
    answers: u32,
}

/// The results of some requests.
#[derive(Default)]
struct Tally {
    valid_bytes: f64,
    tokens: f64,
    seconds: f64,
    answers: u32,
    valid: u32,
}

impl Bench {
    /// The cost of grammars in Tenon, and in llama-server.
    pub async fn grammar(&self) -> Table {
        let mut table = Table::new(&[
            "valid bytes/s",
            "unconstrained",
            "constrained",
            "ratio",
            "valid, %",
            "tokens/s, unconstrained",
            "constrained",
            "llama-server, constrained",
            "Tenon / llama-server",
            "llama-server valid, %",
        ]);
        let mut server = self.tenon(Some(1));
        let tenon = server.client();
        let peer = self.peer(Some(1), 1, 4096).await;
        let peer = peer.as_ref().map(|peer| Client::new(peer.url()));
        let cases = schemas::schemas().map(|(name, schema)| (Case::schema(name, schema), &peer));
        let anything = [("(.|\\n)*", 1), ("(.|\\n)*, 8 clients", 8)];
        let anything = anything.map(|(name, clients)| (Case::anything(name, clients), &None));
        for (case, peer) in cases.into_iter().chain(anything) {
            let [free, bound, other] = self.tallies(&case, &tenon, peer.as_ref()).await;
            let (rate, others) = (bound.rate(), other.rate());
            let ratios = (rate / free.rate(), rate / others);
            let valid = (bound.valid(), other.valid());
            let values = [
                free.rate(),
                rate,
                ratios.0,
                valid.0,
                free.tokens(),
                bound.tokens(),
                others,
                ratios.1,
                valid.1,
            ];
            table.row(case.name, &values);
        }
        let [median, slowest] = mask_seconds(&tenon).await;
        println!("- masks: p50 at most {median} s, p99 at most {slowest} s");
        table
    }

    /// Results without a grammar, with it, and with it on the peer.
    async fn tallies(&self, case: &Case, tenon: &Client, peer: Option<&Client>) -> [Tally; 3] {
        // These requests do not count: they compile the grammars and warm up the kernels.
        let mut warm = Tally::default();
        for turn in 0..case.answers {
            case.measure(tenon, true, turn, &mut warm).await;
        }
        let mut tallies = <[Tally; 3]>::default();
        let [free, bound, other] = &mut tallies;
        // Servers take turns with each answer, because the machine's speed changes over time.
        for turn in case.answers..case.answers * (self.rounds + 1) {
            case.measure(tenon, false, turn, free).await;
            case.measure(tenon, true, turn, bound).await;
            if let Some(peer) = peer {
                case.measure(peer, true, turn, other).await;
            }
        }
        tallies
    }

    /// How much a large schema that is new to the server disturbs other streams, and how much the same request disturbs them
    /// without it.
    pub async fn large_schema(&self) -> Table {
        let mut server = self.tenon(Some(1));
        let client = server.client();
        let mut all = <[Vec<f64>; 3]>::default();
        let mut bytes = 0;
        for round in 0..self.rounds {
            let schema = schemas::catalogue(round);
            bytes = schema.to_string().len();
            let case = Case::schema("catalogue", schema);
            all[0].push(gaps_beside(&client, None).await);
            all[1].push(gaps_beside(&client, Some(case.body(false, round))).await);
            all[2].push(gaps_beside(&client, Some(case.body(true, round))).await);
        }
        let [alone, plain, bound] = all.map(|gaps| median(&gaps));
        let mut table = Table::new(&["4 streams beside", "ITL p99, ms", "to nothing"]);
        table.row("nothing", &[alone, 1.0]);
        table.row("a request", &[plain, plain / alone]);
        let name = format!("the same with a new schema of {} KB", bytes / 1000);
        table.row(&name, &[bound, bound / alone]);
        table
    }
}

impl Case {
    fn schema(name: &'static str, schema: Value) -> Self {
        let json_schema = json!({"name": name, "schema": schema});
        Self {
            name,
            fields: json!({
                "response_format": {"type": "json_schema", "json_schema": json_schema},
                // llama-server's form of the same schema on this route. Tenon ignores it.
                "json_schema": schema,
            }),
            schema: Some(schema),
            clients: 1,
            answers: if name == "free_text" {
                FREE_ANSWERS
            } else {
                ANSWERS
            },
        }
    }

    /// A case whose grammar allows every text.
    fn anything(name: &'static str, clients: u32) -> Self {
        Self {
            name,
            fields: json!({"grammar": {"type": "regex", "value": "(.|\\n)*"}}),
            schema: None,
            clients,
            answers: FREE_ANSWERS / clients.min(ANSWERS),
        }
    }

    /// Sends one request of each client at once, and adds the results.
    async fn measure(&self, client: &Client, constrained: bool, turn: u32, tally: &mut Tally) {
        let seeds = (0..self.clients).map(|at| turn * self.clients + at);
        let bodies: Vec<_> = seeds.map(|seed| self.body(constrained, seed)).collect();
        let begun = Instant::now();
        let answers = join_all(bodies.iter().map(|body| client.post(ROUTE, body))).await;
        tally.seconds += begun.elapsed().as_secs_f64();
        for (status, answer) in answers {
            assert_eq!(status, StatusCode::OK, "{answer}");
            tally.add(&answer, !constrained || self.is_valid(text(&answer)));
        }
    }

    fn body(&self, constrained: bool, seed: u32) -> Value {
        let prompt = schemas::prompt(self.name);
        let mut body =
            json!({"prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0.8, "seed": seed});
        if self.schema.is_none() {
            body["max_tokens"] = ENDLESS_TOKENS.into();
            forbid_end(&mut body);
        }
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
    fn add(&mut self, answer: &Value, is_valid: bool) {
        self.answers += 1;
        self.tokens += answer["usage"]["completion_tokens"].as_f64().unwrap_or(0.0);
        if is_valid {
            self.valid += 1;
            self.valid_bytes += text(answer).len() as f64;
        }
    }

    /// All tokens per second, whether the answers are valid or not.
    fn tokens(&self) -> f64 {
        self.tokens / self.seconds
    }

    /// Valid bytes per second.
    fn rate(&self) -> f64 {
        self.valid_bytes / self.seconds
    }

    /// Valid answers in percent of all answers. NaN if there are no answers.
    fn valid(&self) -> f64 {
        100.0 * f64::from(self.valid) / f64::from(self.answers)
    }
}

/// The 99th percentile of the gaps between texts, in milliseconds, in streams that run while a request arrives.
async fn gaps_beside(client: &Client, request: Option<Value>) -> f64 {
    let mut body = json!({"prompt": "A long story:\n\nOnce upon a time", "temperature": 1.2, "max_tokens": 1000});
    forbid_end(&mut body);
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(client.open(ROUTE, &body).await);
    }
    // Wait until all streams run.
    join_all(streams.iter_mut().map(|stream| gaps(stream, 5))).await;
    let all = join_all(streams.iter_mut().map(|stream| gaps(stream, WINDOW)));
    let other = async {
        if let Some(request) = request {
            let (status, answer) = client.post(ROUTE, &request).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
        }
    };
    let (all, ()) = join(all, other).await;
    percentile(&all.concat(), 0.99)
}

/// Makes a text as long as `max_tokens` allows.
fn forbid_end(body: &mut Value) {
    let no_end: Value = serde_json::from_str(NO_END).expect("JSON");
    body["logit_bias"] = no_end["logit_bias"].clone();
}

/// The next `count` gaps between texts of a stream, in milliseconds.
async fn gaps(stream: &mut Events, count: usize) -> Vec<f64> {
    let (mut last, mut gaps) = (None::<Instant>, Vec::new());
    while gaps.len() < count {
        match stream.next().await {
            Some(Event::Chunk(chunk)) if !text(&chunk).is_empty() => {
                let now = Instant::now();
                gaps.extend(last.map(|last| (now - last).as_secs_f64() * 1e3));
                last = Some(now);
            }
            Some(_) => {}
            None => panic!("a stream ended after {} texts", gaps.len()),
        }
    }
    gaps
}

/// Upper bounds of the median and the 99th percentile of the time that a mask takes, in seconds, from the buckets of the
/// metric.
async fn mask_seconds(client: &Client) -> [f64; 2] {
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
