//! The measurements. Each puts one kind of load on one server once.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use futures_util::future::try_join_all;
use serde::Serialize;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use super::{
    Sizes,
    api::BenchPrompt,
    client::{MeasuredAnswer, MeasuredServer},
    prompts::{RandomPrompts, Sizing, endless_list},
};
use crate::statistics::{median, percentile};

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LoadKind {
    /// Clients that send the next request as soon as one is answered.
    Throughput,
    /// A long prompt, then the same prompt, unchanged and with another ending.
    Prefix,
    /// Like throughput, but each answer follows a JSON schema.
    Schema,
    /// A long prompt arrives while streams are running.
    LongPrompt,
    /// One client asks for a copy of a JSON document with one change.
    Copy,
    /// Short prompts, one after the other, during the prefill of long ones.
    ShortPrompts,
}

/// A kind of load and its number of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Measurement {
    pub load: LoadKind,
    pub clients: u32,
}

/// A measured number.
#[derive(Clone, Copy, Debug)]
pub struct MeasuredFigure {
    pub name: &'static str,
    pub value: f64,
}

/// Pieces of text that a stream must have received before the long prompt is sent.
const SETTLED: usize = 8;
/// Longest answer of the streams that a long prompt meets, in tokens. A stream asks again when its answer ends.
const STREAM_TOKENS: u32 = 512;
/// Tokens of an answer whose first text is timed. More than one, because the first tokens can be parts of a character.
const FEW_TOKENS: u32 = 8;
/// How often a known prompt is asked unchanged, and how often with another ending.
const KNOWN_PROMPTS: u32 = 3;
const COPIED_TOKENS: u32 = 320;
/// How often a short prompt is asked while the server is idle.
const IDLE_PROMPTS: u32 = 5;
/// Pause between a short prompt's answer and the next short prompt.
const PAUSE: Duration = Duration::from_secs(3);
/// Words of a short prompt: with the chat around them, a few dozen tokens.
const SHORT_WORDS: u32 = 16;

impl Measurement {
    /// Runs the load once. Servers that are given the same `prompts` get the same work.
    pub async fn run(
        &self,
        client: &MeasuredServer,
        sizes: &Sizes,
        sizing: &Sizing,
        mut prompts: RandomPrompts,
    ) -> anyhow::Result<Vec<MeasuredFigure>> {
        match self.load {
            LoadKind::Throughput | LoadKind::Schema => {
                self.crowd(client, sizes, &mut prompts).await
            }
            LoadKind::Prefix => prefix(client, sizing.words(sizes.prefix), &mut prompts).await,
            LoadKind::LongPrompt => {
                let words = sizing.words(sizes.long_prompt);
                self.long_prompt(client, sizes, words, &mut prompts).await
            }
            LoadKind::Copy => copy(client, &mut prompts).await,
            LoadKind::ShortPrompts => {
                let words = sizing.words(sizes.long_prompt);
                self.short_prompts(client, words, &mut prompts).await
            }
        }
    }

    /// Runs the clients at the same time, each with one request after the other.
    async fn crowd(
        &self,
        client: &MeasuredServer,
        sizes: &Sizes,
        prompts: &mut RandomPrompts,
    ) -> anyhow::Result<Vec<MeasuredFigure>> {
        let schema = (self.load == LoadKind::Schema).then(endless_list);
        let clients = (0..self.clients).map(|_| {
            let questions: Vec<_> = (0..sizes.requests)
                .map(|_| BenchPrompt {
                    user: prompts.story(sizes.prompt_words),
                    max_tokens: sizes.output,
                    schema: schema.clone(),
                })
                .collect();
            ask_in_turn(client, questions)
        });
        let started = Instant::now();
        let answers: Vec<_> = try_join_all(clients).await?.into_iter().flatten().collect();
        crowd_figures(&answers, sizes.output, started.elapsed())
    }

    async fn long_prompt(
        &self,
        client: &MeasuredServer,
        sizes: &Sizes,
        words: u32,
        prompts: &mut RandomPrompts,
    ) -> anyhow::Result<Vec<MeasuredFigure>> {
        let settled = Semaphore::new(0);
        let (stop, stopped) = watch::channel(false);
        let long = question(prompts.story(words), FEW_TOKENS);
        let streams = (0..self.clients).map(|_| {
            let user = prompts.story(sizes.prompt_words);
            stream_until(
                client,
                question(user, STREAM_TOKENS),
                &settled,
                stopped.clone(),
            )
        });
        let streams = try_join_all(streams);
        let arrival = async {
            let _all = settled.acquire_many(self.clients).await?;
            let answer = client.ask(&long).await?;
            stop.send_replace(true);
            anyhow::Ok(answer)
        };
        let (gaps, answer) = tokio::try_join!(streams, arrival)?;
        long_prompt_figures(&gaps.concat(), &answer)
    }

    /// Sends one long prompt for each client at once. Until the last of them is answered, another client sends short
    /// prompts, with pauses, so that the short prompts take little work beside the long ones.
    async fn short_prompts(
        &self,
        client: &MeasuredServer,
        words: u32,
        prompts: &mut RandomPrompts,
    ) -> anyhow::Result<Vec<MeasuredFigure>> {
        let mut idle = Vec::new();
        for _ in 0..IDLE_PROMPTS {
            let short = question(prompts.story(SHORT_WORDS), FEW_TOKENS);
            idle.push(millis(client.ask(&short).await?.time_to_first_token()?));
        }
        let (stop, mut stopped) = watch::channel(false);
        let long: Vec<_> = (0..self.clients)
            .map(|_| question(prompts.story(words), FEW_TOKENS))
            .collect();
        let long = async {
            let long = try_join_all(long.iter().map(|long| client.ask(long))).await?;
            stop.send_replace(true);
            anyhow::Ok(long)
        };
        let short = async {
            let mut first = Vec::new();
            while !*stopped.borrow() {
                let short = question(prompts.story(SHORT_WORDS), FEW_TOKENS);
                first.push(millis(client.ask(&short).await?.time_to_first_token()?));
                let _ = timeout(PAUSE, stopped.changed()).await;
            }
            anyhow::Ok(first)
        };
        let (long, short) = tokio::try_join!(long, short)?;
        short_prompts_figures(&idle, &short, &long)
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = self.clients;
        let plural = if clients == 1 { "" } else { "s" };
        match self.load {
            LoadKind::Throughput => write!(f, "{clients} client{plural}"),
            LoadKind::Schema => write!(f, "{clients} client{plural}, JSON schema"),
            LoadKind::Prefix => f.write_str("long prompt, new and known"),
            LoadKind::LongPrompt => write!(f, "long prompt among {clients} stream{plural}"),
            LoadKind::Copy => f.write_str("copying JSON"),
            LoadKind::ShortPrompts => write!(f, "short prompts among {clients} long one{plural}"),
        }
    }
}

fn question(user: String, max_tokens: u32) -> BenchPrompt {
    BenchPrompt {
        user,
        max_tokens,
        schema: None,
    }
}

async fn ask_in_turn(
    client: &MeasuredServer,
    questions: Vec<BenchPrompt>,
) -> anyhow::Result<Vec<MeasuredAnswer>> {
    let mut answers = Vec::new();
    for question in &questions {
        answers.push(client.ask(question).await?);
    }
    Ok(answers)
}

fn crowd_figures(
    answers: &[MeasuredAnswer],
    output: u32,
    took: Duration,
) -> anyhow::Result<Vec<MeasuredFigure>> {
    let took = took.as_secs_f64();
    let tokens: u32 = answers.iter().map(MeasuredAnswer::tokens).sum();
    let short = answers.iter().filter(|answer| answer.tokens() < output);
    let prompts = answers.iter().filter_map(|answer| answer.usage);
    let prompts: Vec<_> = prompts
        .map(|usage| f64::from(usage.prompt_tokens))
        .collect();
    let first = answers.iter().map(MeasuredAnswer::time_to_first_token);
    let first: Vec<_> = first
        .map(|time| Ok(millis(time?)))
        .collect::<anyhow::Result<_>>()?;
    let gaps: Vec<_> = answers
        .iter()
        .flat_map(MeasuredAnswer::gaps)
        .map(millis)
        .collect();
    Ok(vec![
        figure("output tokens/s", f64::from(tokens) / took),
        figure("requests/s", answers.len() as f64 / took),
        figure("TTFT p50, ms", percentile(&first, 0.5)),
        figure("TTFT p99, ms", percentile(&first, 0.99)),
        figure("ITL p50, ms", percentile(&gaps, 0.5)),
        figure("ITL p99, ms", percentile(&gaps, 0.99)),
        figure("prompt tokens", median(&prompts)),
        figure("answers that ended early", short.count() as f64),
    ])
}

/// Measures the time to the first token of a new prompt, of the same prompt again, and of the same prompt with another
/// ending.
async fn prefix(
    client: &MeasuredServer,
    words: u32,
    prompts: &mut RandomPrompts,
) -> anyhow::Result<Vec<MeasuredFigure>> {
    let text = prompts.story(words);
    let ask = async |number: u32| {
        let question = question(format!("{text} Story number {number}"), FEW_TOKENS);
        client.ask(&question).await
    };
    let new = ask(0).await?;
    let (mut same, mut known) = (Vec::new(), Vec::new());
    for number in 1..=KNOWN_PROMPTS {
        same.push(millis(ask(0).await?.time_to_first_token()?));
        known.push(millis(ask(number).await?.time_to_first_token()?));
    }
    let new_time = millis(new.time_to_first_token()?);
    let (same, known) = (median(&same), median(&known));
    let tokens = new.usage.context("the server does not report its usage")?;
    Ok(vec![
        figure("TTFT new, ms", new_time),
        figure("TTFT same, ms", same),
        figure("same/new, %", 100.0 * same / new_time),
        figure("TTFT known, ms", known),
        figure("known/new, %", 100.0 * known / new_time),
        figure("prompt tokens", tokens.prompt_tokens.into()),
    ])
}

/// The times of two successive pieces of text.
type Gap = (Instant, Instant);

/// Streams answers until it is told to stop, and then up to the next piece of text.
async fn stream_until(
    client: &MeasuredServer,
    question: BenchPrompt,
    settled: &Semaphore,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<Vec<Gap>> {
    let (mut gaps, mut pieces) = (Vec::new(), 0);
    while !*stopped.borrow() {
        let mut reply = client.open(&question).await?;
        let before = pieces;
        while reply.next().await? {
            pieces += 1;
            if pieces == SETTLED {
                settled.add_permits(1);
            }
            if let [.., before, last] = *reply.answer.arrivals {
                gaps.push((before, last));
            }
            if *stopped.borrow() {
                break;
            }
        }
        // Otherwise requests without an answer would follow each other as fast as the server takes them.
        ensure!(pieces > before, "an answer has no text");
    }
    Ok(gaps)
}

/// Figures of the gaps that overlap the prefill of the long prompt.
fn long_prompt_figures(
    gaps: &[Gap],
    answer: &MeasuredAnswer,
) -> anyhow::Result<Vec<MeasuredFigure>> {
    let first = answer.sent + answer.time_to_first_token()?;
    let overlapping = gaps
        .iter()
        .filter(|(from, to)| *to > answer.sent && *from < first);
    let gaps: Vec<_> = overlapping.map(|(from, to)| millis(*to - *from)).collect();
    let tokens = answer
        .usage
        .context("the server does not report its usage")?;
    Ok(vec![
        figure("ITL p50, ms", percentile(&gaps, 0.5)),
        figure("ITL p99, ms", percentile(&gaps, 0.99)),
        figure("ITL largest, ms", percentile(&gaps, 1.0)),
        figure("gaps", gaps.len() as f64),
        figure("TTFT of the long prompt, ms", millis(first - answer.sent)),
        figure("prompt tokens", tokens.prompt_tokens.into()),
    ])
}

fn short_prompts_figures(
    idle: &[f64],
    short: &[f64],
    long: &[MeasuredAnswer],
) -> anyhow::Result<Vec<MeasuredFigure>> {
    let read = long.iter().map(MeasuredAnswer::time_to_first_token);
    let read = read.map(|time| Ok(millis(time?)));
    let read = read.collect::<anyhow::Result<Vec<_>>>()?;
    let mean = read.iter().sum::<f64>() / read.len() as f64;
    let tokens: u32 = long
        .iter()
        .filter_map(|answer| Some(answer.usage?.prompt_tokens))
        .sum();
    Ok(vec![
        figure("TTFT idle, ms", percentile(idle, 0.5)),
        figure("TTFT p50, ms", percentile(short, 0.5)),
        figure("TTFT p99, ms", percentile(short, 0.99)),
        figure("short prompts", short.len() as f64),
        figure("TTFT of long prompts, mean, ms", mean),
        figure("TTFT of the last long prompt, ms", percentile(&read, 1.0)),
        figure("prompt tokens", f64::from(tokens) / long.len() as f64),
    ])
}

async fn copy(
    client: &MeasuredServer,
    prompts: &mut RandomPrompts,
) -> anyhow::Result<Vec<MeasuredFigure>> {
    let answer = client.ask(&question(prompts.copy(), COPIED_TOKENS)).await?;
    let gaps: Duration = answer.gaps().sum();
    Ok(vec![
        figure(
            "decoded tokens/s",
            f64::from(answer.tokens().saturating_sub(1)) / gaps.as_secs_f64(),
        ),
        figure("tokens", answer.tokens().into()),
        figure("pieces", answer.arrivals.len() as f64),
    ])
}

fn figure(name: &'static str, value: f64) -> MeasuredFigure {
    MeasuredFigure { name, value }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
