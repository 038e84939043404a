//! `tenon bench …`

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use tenon_plugin_api::{
    Batch, Code, Error, LoadArgs, ModelInfo, SampleRequest, Sampled, SessionArgs, Span, SpanOut,
};

use crate::plugin::{Model, Registry, RegistryOptions, Session};

/// Measure how fast things are.
#[derive(Subcommand)]
pub enum Bench {
    Engine(EngineBench),
}

/// Measure a backend through the ABI, without HTTP: prefill (`pp`) and decode (`tg`), in the table form of llama-bench.
#[derive(Args)]
pub struct EngineBench {
    /// The model's file or directory.
    model: PathBuf,
    /// A directory with plugins; may be given more than once [default: `plugins` beside this program].
    #[arg(long = "plugins", value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// The backend to use [default: the one that fits the model best].
    #[arg(long, value_name = "ID")]
    backend: Option<String>,
    /// Threads that compute [default: all cores].
    #[arg(
        short,
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true
    )]
    threads: u32,
    /// Tokens to put in at once.
    #[arg(short = 'p', long, value_name = "N", default_value_t = 512)]
    prompt: u32,
    /// Tokens to generate, one after the other.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128)]
    generate: u32,
    /// Runs to average over, after one to warm up.
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
}

/// Most tokens in one forward, as llama-bench has it.
const BATCH_TOKENS: u32 = 512;

impl Bench {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Engine(bench) => bench.run(),
        }
    }
}

impl EngineBench {
    fn run(self) -> anyhow::Result<()> {
        let mut options = RegistryOptions::new(self.directories.clone())?;
        if self.threads > 0 {
            options.threads = self.threads;
        }
        let registry = Registry::load(&options);
        let backend = registry.choose(&self.model, self.backend.as_deref())?;
        let args = LoadArgs {
            path: self.model.clone(),
            threads: options.threads,
            options: "{}".into(),
            ..LoadArgs::default()
        };
        let model = backend.load(&args, Box::new(|_, _| true))?;
        let session = self.session(&model, options.threads)?;
        let mut runner = Runner::new(session, model.info().vocab_size);
        let label = Label {
            model: describe(&self.model, model.info()),
            size_mib: model.info().weight_bytes as f64 / f64::from(1 << 20),
            parameters_millions: model.info().parameters as f64 / 1e6,
            backend: backend.descriptor().id.clone(),
            threads: options.threads,
        };
        Label::print_head();
        if self.prompt > 0 {
            let rates = self.measure(self.prompt, || runner.prefill(self.prompt))?;
            label.print_row(&format!("pp{}", self.prompt), &rates);
        }
        if self.generate > 0 {
            let rates = self.measure(self.generate, || runner.decode(self.generate))?;
            label.print_row(&format!("tg{}", self.generate), &rates);
        }
        Ok(())
    }

    fn session(&self, model: &Model, threads: u32) -> Result<Session, Error> {
        let longest = self.prompt.max(self.generate).max(1);
        model.session(&SessionArgs {
            max_sequences: 1,
            kv_tokens: longest,
            context_length: longest,
            max_batch_tokens: BATCH_TOKENS,
            threads,
            ..SessionArgs::default()
        })
    }

    /// Tokens per second of each run.
    fn measure(
        &self,
        tokens: u32,
        mut run: impl FnMut() -> Result<Duration, Error>,
    ) -> Result<Vec<f64>, Error> {
        run()?;
        (0..self.repetitions)
            .map(|_| Ok(f64::from(tokens) / run()?.as_secs_f64()))
            .collect()
    }
}

/// Puts tokens through one sequence of a session.
struct Runner {
    session: Session,
    vocab_size: u32,
    position: u32,
}

impl Runner {
    fn new(session: Session, vocab_size: u32) -> Self {
        Self {
            session,
            vocab_size,
            position: 0,
        }
    }

    fn prefill(&mut self, tokens: u32) -> Result<Duration, Error> {
        // Any tokens do; these are spread over the vocabulary (Knuth's multiplicative hashing).
        let token = |i: u32| i.wrapping_mul(2_654_435_761) % self.vocab_size;
        let prompt: Vec<u32> = (0..tokens).map(token).collect();
        self.restart();
        let started = Instant::now();
        for chunk in prompt.chunks(self.session.info().max_batch_tokens as usize) {
            self.forward(chunk)?;
        }
        Ok(started.elapsed())
    }

    fn decode(&mut self, tokens: u32) -> Result<Duration, Error> {
        self.restart();
        let mut token = 0;
        let started = Instant::now();
        for _ in 0..tokens {
            token = self.forward(&[token])?;
        }
        Ok(started.elapsed())
    }

    fn restart(&mut self) {
        self.session.free(0);
        self.position = 0;
    }

    /// Computes some tokens and the one that follows, as an engine's step does.
    fn forward(&mut self, tokens: &[u32]) -> Result<u32, Error> {
        let span = Span {
            position: self.position,
            len: tokens.len() as u32,
            rows: 1,
            ..Span::default()
        };
        let mut out = [SpanOut::default()];
        self.session
            .forward(&Batch::new(tokens, &[span]), &mut out)?;
        check(out[0].status)?;
        let mut sampled = [Sampled::new(&mut [])];
        let request = SampleRequest::new(out[0].first_row);
        self.session.sample(&[request], &mut sampled)?;
        check(sampled[0].status)?;
        self.position += span.len;
        Ok(sampled[0].token)
    }
}

fn check(status: Code) -> Result<(), Error> {
    match status {
        Code::OK => Ok(()),
        code => Err(Error::new(code, format!("the backend failed: {code:?}"))),
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

/// What stands in every row.
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

/// Mean and sample standard deviation.
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    if values.len() < 2 {
        return (mean, 0.0);
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    #[test]
    fn deviation_is_that_of_a_sample() {
        assert_eq!(super::mean_and_deviation(&[2.0, 4.0, 6.0]), (4.0, 2.0));
        assert_eq!(super::mean_and_deviation(&[3.0]), (3.0, 0.0));
    }
}
