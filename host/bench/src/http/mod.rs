//! `tenon bench http`: measures a server of the OpenAI API, seen from its clients.
//!
//! 1. `client` sends requests and reads the clock whenever text arrives. `api` has the forms of the APIs.
//! 2. `prompts` makes texts of a given length that are new to the server.
//! 3. `measurements` puts one kind of load on a server, once, and computes figures from it.
//! 4. [`HttpBench::run`] repeats that in rounds, and with several servers in turns. `report` shows the medians.

mod api;
mod client;
mod measurements;
mod prompts;
mod report;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};
use uuid::Uuid;

use api::{Api, BenchPrompt};
use client::{Access, MeasuredServer};
use measurements::{LoadKind, Measurement};
use prompts::{RandomPrompts, Sizing};
use report::BenchReport;

use crate::model::{MAX_PARALLEL, MAX_TOKENS};

/// Measure any server of the OpenAI API over HTTP. With --versus, measure several servers in turns and compare them.
///
/// Prompts are new to the server unless a measurement says otherwise. Tokens are those that the server reports in its
/// usage. If the model ends answers early, the server has less to do; the line "answers that ended early" shows it. A bias
/// against the token that ends an answer helps: --extra '{"logit_bias": {"2": -100}}'.
#[derive(Args)]
pub struct HttpBench {
    /// Base URL of the server, for example http://localhost:8080.
    url: String,
    /// Another server to measure in turns with the first one. The ratios are the first server's figures divided by this
    /// one's. May be given more than once.
    #[arg(long, value_name = "URL")]
    versus: Vec<String>,
    /// The model to ask for [default: the first that each server lists].
    #[arg(long, value_name = "ID")]
    model: Option<String>,
    /// The API to measure through.
    #[arg(long, value_enum, default_value_t)]
    api: Api,
    /// The API key of the servers.
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// A file with the certificates, in PEM, of the authorities that may sign a server's certificate (https) [default: those
    /// that this machine trusts].
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A JSON object whose fields are added to every request.
    #[arg(long, value_name = "JSON", value_parser = object)]
    extra: Option<Map<String, Value>>,
    /// The kinds of load to measure.
    #[arg(
        short,
        long,
        value_name = "LOAD,…",
        value_delimiter = ',',
        default_value = "throughput,prefix,schema,long-prompt,copy,short-prompts"
    )]
    loads: Vec<LoadKind>,
    /// Clients at the same time, for throughput. Several numbers are measured one after the other.
    #[arg(
        short,
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "1,4,8,16", value_parser = clap::value_parser!(u32).range(1..=MAX_PARALLEL)
    )]
    clients: Vec<u32>,
    /// Streams for schema and long-prompt.
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=MAX_PARALLEL))]
    streams: u32,
    /// Long prompts that arrive together, for short-prompts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=MAX_PARALLEL))]
    long_prompts: u32,
    /// Rounds to take the medians of.
    #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    #[command(flatten)]
    sizes: Sizes,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// The sizes of prompts and answers.
#[derive(Args)]
pub struct Sizes {
    /// Requests of each client in a round, one after the other.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// Words of the prompts for throughput and schema.
    #[arg(short = 'p', long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(..=MAX_TOKENS))]
    prompt_words: u32,
    /// Tokens of the answers for throughput and schema.
    #[arg(short = 'n', long = "output-tokens", value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=MAX_TOKENS))]
    output: u32,
    /// Tokens of the prompt for prefix.
    #[arg(long = "prefix-tokens", value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(..=MAX_TOKENS))]
    prefix: u32,
    /// Tokens of the prompts for long-prompt and short-prompts.
    #[arg(long = "long-prompt-tokens", value_name = "N", default_value_t = 4000, value_parser = clap::value_parser!(u32).range(..=MAX_TOKENS))]
    long_prompt: u32,
}

/// A server, and its number of tokens per word.
struct BenchTarget {
    client: MeasuredServer,
    sizing: Sizing,
}

impl HttpBench {
    pub fn run(self) -> anyhow::Result<()> {
        // One thread only: the servers need the machine.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let report = runtime.block_on(self.measure())?;
        match self.json {
            true => report.print_json()?,
            false => report.print_table(),
        }
        report.fail_if_empty()
    }

    async fn measure(&self) -> anyhow::Result<BenchReport> {
        let access = Access {
            api: self.api,
            model: self.model.clone(),
            api_key: self.api_key.clone(),
            authorities: self.ca.clone(),
            extra: self.extra.clone().unwrap_or_default(),
        };
        // The seed is random: otherwise a second run would find everything cached.
        let seed = Uuid::new_v4().as_u64_pair().0;
        let mut targets = Vec::new();
        for url in [&self.url].into_iter().chain(&self.versus) {
            targets.push(BenchTarget::new(url, &access, seed).await?);
        }
        let plan = self.plan();
        let servers = targets.iter().map(|target| &target.client);
        let mut report = BenchReport::new(servers, self.rounds, &plan);
        let bar = progress_bar(u64::from(self.rounds) * (plan.len() * targets.len()) as u64);
        for round in 0..self.rounds {
            for (index, measurement) in plan.iter().enumerate() {
                for server in turns(targets.len(), round) {
                    let target = &targets[server];
                    bar.set_message(format!("{measurement}, {}", target.client.url()));
                    let prompts = RandomPrompts::new(seed ^ u64::from(round) << 32 ^ index as u64);
                    let figures = target.run(measurement, &self.sizes, prompts).await;
                    report.add(index, server, figures);
                    bar.inc(1);
                }
            }
        }
        bar.finish_and_clear();
        Ok(report)
    }

    fn plan(&self) -> Vec<Measurement> {
        let of = |load| match load {
            LoadKind::Throughput => self.clients.clone(),
            LoadKind::Schema | LoadKind::LongPrompt => vec![self.streams],
            LoadKind::Prefix | LoadKind::Copy => vec![1],
            LoadKind::ShortPrompts => vec![self.long_prompts],
        };
        let loads = self.loads.iter();
        loads
            .flat_map(|&load| {
                of(load)
                    .into_iter()
                    .map(move |clients| Measurement { load, clients })
            })
            .collect()
    }
}

impl BenchTarget {
    /// Connects to a server and measures how it counts tokens. That also warms it up.
    async fn new(url: &str, access: &Access, seed: u64) -> anyhow::Result<Self> {
        let reach = || format!("cannot measure {url}");
        let client = MeasuredServer::connect(url, access)
            .await
            .with_context(reach)?;
        let mut prompts = RandomPrompts::new(!seed);
        let mut sizes = [(50, 0), (150, 0)];
        for (words, tokens) in &mut sizes {
            let question = BenchPrompt {
                user: prompts.story(*words),
                max_tokens: 1,
                schema: None,
            };
            let usage = client.ask(&question).await.with_context(reach)?.usage;
            let usage =
                usage.with_context(|| format!("{url} does not report its usage in streams"))?;
            *tokens = usage.prompt_tokens;
        }
        Ok(Self {
            client,
            sizing: Sizing::new(sizes[0], sizes[1]),
        })
    }

    async fn run(
        &self,
        measurement: &Measurement,
        sizes: &Sizes,
        prompts: RandomPrompts,
    ) -> anyhow::Result<Vec<measurements::MeasuredFigure>> {
        measurement
            .run(&self.client, sizes, &self.sizing, prompts)
            .await
    }
}

/// The order of the servers in a round. Another one goes first in each round.
fn turns(servers: usize, round: u32) -> impl Iterator<Item = usize> {
    (0..servers).map(move |turn| (turn + round as usize) % servers)
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

fn progress_bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    // The template is a constant that parses.
    if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
