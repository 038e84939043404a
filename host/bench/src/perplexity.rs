//! `tenon bench perplexity`: how well a model predicts a text, through any backend.

use std::{fs, io::IsTerminal, path::PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tenon::plugin::Session;
use tenon_plugin_api::{Batch, EncodeFlags, SampleRequest, Sampled, SessionArgs, Span, SpanOut};

use crate::model::{BenchModel, MAX_TOKENS, ModelArgs, check};

/// Measure how well a model predicts a text: its perplexity, as llama-perplexity defines it. Lower is better.
#[derive(Args)]
pub struct PerplexityBench {
    #[command(flatten)]
    model: ModelArgs,
    /// The text, in UTF-8.
    text: PathBuf,
    /// Tokens of each window. The tokens of its second half are predicted from those before them.
    #[arg(short, long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(4..=MAX_TOKENS))]
    context: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The result.
#[derive(Serialize)]
struct PerplexityReport {
    model: String,
    backend: String,
    quantization: String,
    weight_bytes: u64,
    /// Number of tensors that have another type, because their shape does not fit the level.
    fallback_tensors: u32,
    text_tokens: usize,
    predicted_tokens: usize,
    perplexity: f64,
    /// Standard error of the perplexity.
    perplexity_error: f64,
}

impl PerplexityBench {
    pub fn run(self) -> anyhow::Result<()> {
        let text = fs::read_to_string(&self.text)
            .with_context(|| format!("cannot read the text {}", self.text.display()))?;
        let bench = self.model.load()?;
        let model = &bench.model;
        let tokenizer = model.tokenizer()?;
        let tokens = tokenizer.encode(&text, EncodeFlags::NONE)?;
        // The tokens that this model expects before every text.
        let before = tokenizer.encode("", EncodeFlags::ADD_SPECIAL)?;
        let bos = model.info().bos.filter(|bos| before.first() == Some(bos));
        let losses = self.losses(&bench, &tokens, bos)?;
        let info = model.info();
        let (perplexity, perplexity_error) = perplexity(&losses);
        self.print(&PerplexityReport {
            model: self.model.path.display().to_string(),
            backend: bench.backend.clone(),
            quantization: info.quantization.clone(),
            weight_bytes: info.weight_bytes,
            fallback_tensors: info.fallback_tensors,
            text_tokens: tokens.len(),
            predicted_tokens: losses.len(),
            perplexity,
            perplexity_error,
        })
    }

    /// The negative log-likelihoods of all predicted tokens. A BOS that the model expects replaces the first token of each
    /// window.
    fn losses(
        &self,
        bench: &BenchModel,
        tokens: &[u32],
        bos: Option<u32>,
    ) -> anyhow::Result<Vec<f64>> {
        let windows = tokens.chunks_exact(self.context as usize);
        ensure!(
            windows.len() > 0,
            "{} has {} tokens: that is less than one window (--context {})",
            self.text.display(),
            tokens.len(),
            self.context
        );
        let session = bench.model.session(&SessionArgs {
            max_sequences: 1,
            kv_tokens: self.context,
            context_length: self.context,
            max_batch_tokens: self.context.min(512),
            threads: bench.threads,
            ..SessionArgs::default()
        })?;
        let mut scorer = Scorer {
            session,
            losses: Vec::new(),
        };
        let progress = progress_bar(windows.len());
        for window in windows {
            let mut window = window.to_vec();
            if let Some(bos) = bos {
                window[0] = bos;
            }
            scorer.window(&window)?;
            progress.inc(1);
        }
        progress.finish_and_clear();
        Ok(scorer.losses)
    }

    fn print(&self, report: &PerplexityReport) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(report)?);
            return Ok(());
        }
        println!(
            "{} {} by {}: perplexity {:.4} ± {:.4} over {} tokens ({:.2} MiB of weights, {} tensors fell back)",
            report.model,
            report.quantization,
            report.backend,
            report.perplexity,
            report.perplexity_error,
            report.predicted_tokens,
            report.weight_bytes as f64 / f64::from(1 << 20),
            report.fallback_tensors
        );
        Ok(())
    }
}

struct Scorer {
    session: Session,
    losses: Vec<f64>,
}

impl Scorer {
    /// Computes a window, and scores the prediction of each next token in its second half.
    fn window(&mut self, tokens: &[u32]) -> anyhow::Result<()> {
        let (half, last) = (tokens.len() / 2, tokens.len() - 1);
        let info = self.session.info();
        let (most_tokens, most_rows) = (info.max_batch_tokens as usize, info.max_rows as usize);
        let mut position = 0;
        while position < last {
            let (end, rows) = match position < half {
                true => (half.min(position + most_tokens), 0),
                false => {
                    let end = last.min(position + most_tokens.min(most_rows));
                    (end, end - position)
                }
            };
            self.chunk(&tokens[position..=end], position, rows)?;
            position = end;
        }
        self.session.free(0);
        Ok(())
    }

    /// Computes all tokens but the last, and scores the predictions of the last `rows` tokens.
    fn chunk(&mut self, tokens: &[u32], position: usize, rows: usize) -> anyhow::Result<()> {
        let len = tokens.len() - 1;
        let spans = [Span {
            start: position as u32,
            len: len as u32,
            rows: rows as u32,
            ..Span::default()
        }];
        let mut out = [SpanOut::default()];
        let batch = Batch::new(&tokens[..len], &spans);
        self.session.forward(&batch, &mut out)?;
        check(out[0].status)?;
        let expected = &tokens[tokens.len() - rows..];
        let requests = (out[0].first_row..).zip(expected).map(|(row, &token)| {
            let mut request = SampleRequest::new(row);
            request.forced = token;
            request.logprob = 1;
            request
        });
        let requests: Vec<_> = requests.collect();
        let mut sampled: Vec<_> = expected.iter().map(|_| Sampled::new(&mut [])).collect();
        self.session.sample(&requests, &mut sampled)?;
        for sampled in &sampled {
            check(sampled.status)?;
            self.losses.push(-f64::from(sampled.logprob));
        }
        Ok(())
    }
}

/// The perplexity, which is the exponential of the mean loss, and its standard error.
fn perplexity(losses: &[f64]) -> (f64, f64) {
    let count = losses.len() as f64;
    let mean = losses.iter().sum::<f64>() / count;
    let squares = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>();
    let error = (squares / (count - 1.0) / count).sqrt();
    (mean.exp(), mean.exp() * error)
}

fn progress_bar(windows: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(windows as u64).with_message("perplexity");
    // The template is a constant that parses.
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {eta}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::perplexity;

    #[test]
    fn perplexity_is_the_number_of_equally_likely_choices() {
        let (certain, error) = perplexity(&[8_f64.ln(); 10]);
        assert!((certain - 8.0).abs() < 1e-9 && error < 1e-9);
        let (mixed, error) = perplexity(&[2_f64.ln(), 8_f64.ln(), 2_f64.ln(), 8_f64.ln()]);
        assert!((mixed - 4.0).abs() < 1e-9);
        assert!((error - 4.0 * 2_f64.ln() / 3_f64.sqrt()).abs() < 1e-9);
    }
}
