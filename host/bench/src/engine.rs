//! `tenon bench engine`: a backend through the ABI, in the table form of llama-bench.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use tenon::{config::MAX_KV_TOKENS, plugin::Session};
use tenon_plugin_api::{
    Batch, Error, ModelInfo, SampleRequest, Sampled, SessionArgs, Span, SpanOut, ThreadPlan,
};

use crate::{
    model::{BenchModel, MAX_PARALLEL, MAX_TOKENS, ModelArgs, check},
    statistics::mean_and_deviation,
};

/// Measure a backend through the ABI, without HTTP: prefill (`pp`) and decode (`tg`), in the table form of llama-bench.
#[derive(Args)]
pub struct EngineBench {
    #[command(flatten)]
    model: ModelArgs,
    /// How busily idle threads wait between operations: 0 = sleep, 100 = spin [default: the backend decides].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    poll: Option<u32>,
    /// Tokens of each prompt.
    #[arg(short = 'p', long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(..=MAX_TOKENS))]
    prompt: u32,
    /// Tokens to generate in each sequence.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(..=MAX_TOKENS))]
    generate: u32,
    /// Sequences at the same time. Several numbers are measured one after the other. Rates are those of all sequences
    /// together.
    #[arg(short, long, value_name = "N,…", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..=MAX_PARALLEL))]
    batch: Vec<u32>,
    /// Tokens of another sequence that the KV pool holds meanwhile, like those of finished requests.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=MAX_TOKENS))]
    idle_tokens: u32,
    /// Runs to average over. One more run before them warms up.
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
}

/// Most tokens in one forward pass, as in llama-bench.
const BATCH_TOKENS: u32 = 512;

impl EngineBench {
    pub fn run(self) -> anyhow::Result<()> {
        let bench = self.model.load()?;
        let info = bench.model.info();
        let label = Label {
            model: describe(&self.model.path, info),
            size_mib: info.weight_bytes as f64 / f64::from(1 << 20),
            parameters_millions: info.parameters as f64 / 1e6,
            backend: bench.backend.clone(),
            threads: bench.threads,
        };
        Label::print_head();
        for &sequences in &self.batch {
            let session = self.session(&bench, sequences)?;
            let mut runner = SessionRunner::new(session, info.vocab_size, sequences);
            runner.store(sequences, self.idle_tokens)?;
            self.measure_all(&mut runner, &label)?;
        }
        Ok(())
    }

    fn session(&self, bench: &BenchModel, sequences: u32) -> anyhow::Result<Session> {
        let longest = self.prompt.max(self.generate).max(self.idle_tokens).max(1);
        let threads = bench.threads;
        let kv_tokens = longest
            .saturating_mul(sequences)
            .saturating_add(self.idle_tokens);
        let mut session = bench.model.session(&SessionArgs {
            max_sequences: sequences + 1,
            kv_tokens: kv_tokens.min(MAX_KV_TOKENS),
            context_length: longest,
            max_batch_tokens: BATCH_TOKENS.max(sequences),
            threads,
            ..SessionArgs::default()
        })?;
        if let Some(poll) = self.poll {
            let plan = ThreadPlan {
                decode: threads,
                prefill: threads,
                decode_poll: poll,
                prefill_poll: poll,
                ..ThreadPlan::default()
            };
            session
                .set_threads(plan)
                .context("--poll is not for this backend")?;
        }
        Ok(session)
    }

    fn measure_all(&self, runner: &mut SessionRunner, label: &Label) -> Result<(), Error> {
        let sequences = runner.sequences;
        if self.prompt > 0 {
            let rates = self.rates(self.prompt, sequences, || runner.prefill(self.prompt))?;
            label.print_row(&test_name("pp", self.prompt, sequences), &rates);
        }
        if self.generate > 0 {
            let rates = self.rates(self.generate, sequences, || runner.decode(self.generate))?;
            label.print_row(&test_name("tg", self.generate, sequences), &rates);
        }
        Ok(())
    }

    /// The tokens per second of each run.
    fn rates(
        &self,
        tokens: u32,
        sequences: u32,
        mut run: impl FnMut() -> Result<Duration, Error>,
    ) -> Result<Vec<f64>, Error> {
        run()?;
        let tokens = f64::from(tokens) * f64::from(sequences);
        (0..self.repetitions)
            .map(|_| Ok(tokens / run()?.as_secs_f64()))
            .collect()
    }
}

/// The name of a test: `pp512` as in llama-bench, `pp512 x4` for four sequences.
fn test_name(kind: &str, tokens: u32, sequences: u32) -> String {
    match sequences {
        1 => format!("{kind}{tokens}"),
        _ => format!("{kind}{tokens} x{sequences}"),
    }
}

/// Computes tokens in the sequences of a session.
struct SessionRunner {
    session: Session,
    vocab_size: u32,
    sequences: u32,
    /// Length of each sequence, that of the idle one last: `[sequences + 1]`.
    positions: Vec<u32>,
    /// The token that follows each sequence: `[sequences + 1]`.
    next: Vec<u32>,
    // The batch of one forward.
    tokens: Vec<u32>,
    spans: Vec<Span>,
}

impl SessionRunner {
    fn new(session: Session, vocab_size: u32, sequences: u32) -> Self {
        Self {
            session,
            vocab_size,
            sequences,
            positions: vec![0; sequences as usize + 1],
            next: vec![0; sequences as usize + 1],
            tokens: Vec::new(),
            spans: Vec::new(),
        }
    }

    /// Computes all prompts, one after the other, in batches as large as the session takes.
    fn prefill(&mut self, tokens: u32) -> Result<Duration, Error> {
        self.restart();
        let started = Instant::now();
        for seq in 0..self.sequences {
            self.add_prompt(seq, tokens)?;
        }
        self.finish_batch()?;
        Ok(started.elapsed())
    }

    /// Computes a prompt in a sequence that is not measured.
    fn store(&mut self, seq: u32, tokens: u32) -> Result<(), Error> {
        self.add_prompt(seq, tokens)?;
        self.finish_batch()
    }

    fn add_prompt(&mut self, seq: u32, tokens: u32) -> Result<(), Error> {
        let most = self.session.info().max_batch_tokens;
        while self.positions[seq as usize] < tokens {
            let position = self.positions[seq as usize];
            let room = most - self.tokens.len() as u32;
            self.push_prompt(seq, position, (tokens - position).min(room));
            if self.tokens.len() as u32 == most {
                self.forward()?;
            }
        }
        Ok(())
    }

    fn finish_batch(&mut self) -> Result<(), Error> {
        match self.tokens.is_empty() {
            true => Ok(()),
            false => self.forward(),
        }
    }

    fn decode(&mut self, tokens: u32) -> Result<Duration, Error> {
        self.restart();
        let started = Instant::now();
        for _ in 0..tokens {
            for seq in 0..self.sequences {
                self.tokens.push(self.next[seq as usize]);
                self.push_span(seq, 1);
            }
            self.forward()?;
        }
        Ok(started.elapsed())
    }

    fn restart(&mut self) {
        for seq in 0..self.sequences {
            self.session.free(seq);
            self.positions[seq as usize] = 0;
            self.next[seq as usize] = 0;
        }
    }

    fn push_prompt(&mut self, seq: u32, position: u32, len: u32) {
        // Any tokens do; these are spread over the vocabulary (Knuth's multiplicative hashing).
        let vocab_size = self.vocab_size;
        let token = |i: u32| (seq + i).wrapping_mul(2_654_435_761) % vocab_size;
        self.tokens.extend((position..position + len).map(token));
        self.push_span(seq, len);
    }

    fn push_span(&mut self, seq: u32, len: u32) {
        let position = &mut self.positions[seq as usize];
        self.spans.push(Span {
            seq,
            start: *position,
            len,
            rows: 1,
            ..Span::default()
        });
        *position += len;
    }

    /// Computes the batch and samples a token for each of its spans, as an engine's step does.
    fn forward(&mut self) -> Result<(), Error> {
        let mut out = vec![SpanOut::default(); self.spans.len()];
        self.session
            .forward(&Batch::new(&self.tokens, &self.spans), &mut out)?;
        let mut requests = Vec::with_capacity(out.len());
        for out in &out {
            check(out.status)?;
            requests.push(SampleRequest::new(out.first_row));
        }
        let mut sampled: Vec<_> = out.iter().map(|_| Sampled::new(&mut [])).collect();
        self.session.sample(&requests, &mut sampled)?;
        for (span, sampled) in self.spans.iter().zip(&sampled) {
            check(sampled.status)?;
            self.next[span.seq as usize] = sampled.token;
        }
        self.tokens.clear();
        self.spans.clear();
        Ok(())
    }
}

fn describe(path: &Path, info: &ModelInfo) -> String {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    match info.quantization.as_str() {
        "" => name.into_owned(),
        level if name.ends_with(level) => name.into_owned(),
        level => format!("{name} {level}"),
    }
}

/// The cells that are the same in every row.
struct Label {
    model: String,
    size_mib: f64,
    parameters_millions: f64,
    backend: String,
    threads: u32,
}

impl Label {
    fn print_head() {
        println!(
            "| {:<30} | {:>10} | {:>10} | {:<20} | {:>7} | {:>15} | {:>20} |",
            "model", "size", "params", "backend", "threads", "test", "t/s"
        );
        println!(
            "| {:-<30} | {:->9}: | {:->9}: | {:-<20} | {:->6}: | {:->14}: | {:->19}: |",
            "", "", "", "", "", "", ""
        );
    }

    fn print_row(&self, test: &str, rates: &[f64]) {
        let size = format!("{:.2} MiB", self.size_mib);
        let parameters = format!("{:.2} M", self.parameters_millions);
        let (mean, deviation) = mean_and_deviation(rates);
        let rate = format!("{mean:.2} ± {deviation:.2}");
        println!(
            "| {:<30} | {size:>10} | {parameters:>10} | {:<20} | {:>7} | {test:>15} | {rate:>20} |",
            self.model, self.backend, self.threads
        );
    }
}
