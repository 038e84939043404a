//! Embeddings that llama.cpp pools: those of encoders, whose tokens attend to all others, and the judgements of cross-encoders.
//! Each text is computed at once, in a context that has room for the longest text so far.

use std::sync::Arc;

use llama_cpp_sys_2 as sys;
use tenon_plugin_api::{Embedder, EmbedderInfo, Interrupt, Pooling, Result, SessionArgs, Span};

use crate::{
    batch::BatchArrays,
    context::{Context, MICRO_BATCH_TOKENS},
    options::Options,
    threads::{Phase, Threads},
    weights::Weights,
};

/// Most texts in a batch.
const MAX_TEXTS: u32 = 32;
/// Waiting threads sleep, because they share their cores with those of other models.
const POLL: u32 = 0;

/// What the model computes from a text.
pub enum Output {
    /// Its vector.
    Vector(Pooling),
    /// How relevant a document is to a query. `template` is the text of both.
    Relevance { template: String },
}

impl Output {
    /// What the model computes from whole texts. None if the model generates text and judges nothing, or if the meaning of
    /// its head's outputs is unknown.
    pub fn of(weights: &Weights) -> Option<Self> {
        if weights.is_judge() {
            let template = weights.pair_template();
            return Some(Self::Relevance { template });
        }
        let pooling = weights.pooling().filter(|_| weights.is_bidirectional());
        pooling.map(Self::Vector)
    }

    fn pooling(&self) -> sys::llama_pooling_type {
        match self {
            Self::Vector(Pooling::Mean) => sys::LLAMA_POOLING_TYPE_MEAN,
            Self::Vector(Pooling::Cls) => sys::LLAMA_POOLING_TYPE_CLS,
            Self::Vector(Pooling::Last) => sys::LLAMA_POOLING_TYPE_LAST,
            Self::Relevance { .. } => sys::LLAMA_POOLING_TYPE_RANK,
        }
    }
}

pub struct PooledEmbedder {
    weights: Arc<Weights>,
    options: Options,
    threads: u32,
    output: Output,
    running: Option<PooledContext>,
}

impl PooledEmbedder {
    pub fn new(weights: Arc<Weights>, options: Options, threads: u32, output: Output) -> Self {
        Self {
            weights,
            options,
            threads,
            output,
            running: None,
        }
    }

    /// A context for batches of at least `tokens` tokens.
    fn running(&mut self, tokens: u32) -> Result<&mut PooledContext> {
        let old = self.running.take();
        let running = match old.filter(|old| old.context.max_batch_tokens() >= tokens) {
            Some(large_enough) => large_enough,
            None => PooledContext::new(
                self.weights.clone(),
                &self.options,
                self.threads,
                self.output.pooling(),
                tokens.next_power_of_two(),
            )?,
        };
        Ok(self.running.insert(running))
    }

    /// The relevance of a pair, from 0 to 1, by the model's output.
    fn relevance(&self, output: f32) -> f32 {
        match self.weights.judges_in_probabilities() {
            true => output,
            false => 1.0 / (1.0 + (-output).exp()),
        }
    }
}

impl Embedder for PooledEmbedder {
    fn info(&self) -> EmbedderInfo {
        let max_tokens = self.weights.0.n_ctx_train();
        match &self.output {
            Output::Vector(pooling) => EmbedderInfo::new(
                self.weights.embedding_dimensions(),
                max_tokens,
                pooling.name(),
            ),
            Output::Relevance { template } => EmbedderInfo::judge(max_tokens, template),
        }
    }

    fn embed(&mut self, texts: &[&[u32]], interrupt: &Interrupt, out: &mut [f32]) -> Result<()> {
        let dimensions = out.len() / texts.len();
        let longest = texts.iter().map(|text| text.len() as u32).max();
        let running = self.running(longest.unwrap_or(0).max(MICRO_BATCH_TOKENS))?;
        running.context.set_interrupt(interrupt);
        let mut out_rows = out.chunks_exact_mut(dimensions);
        for batch in batches(texts, running.context.max_batch_tokens()) {
            running.compute(batch)?;
            for (seq, row) in (0..batch.len() as u32).zip(&mut out_rows) {
                row.copy_from_slice(running.context.pooled(seq, dimensions)?);
            }
        }
        if let Output::Relevance { .. } = self.output {
            out.iter_mut()
                .for_each(|number| *number = self.relevance(*number));
        }
        Ok(())
    }
}

/// Consecutive texts that are computed together: at most [`MAX_TEXTS`] with at most `max_tokens` tokens. No text is longer.
fn batches<'t, 'a>(
    texts: &'t [&'a [u32]],
    max_tokens: u32,
) -> impl Iterator<Item = &'t [&'a [u32]]> {
    let mut rest = texts;
    std::iter::from_fn(move || {
        let mut room = max_tokens as usize;
        let fits = |text: &&&[u32]| {
            let fits = text.len() <= room;
            room = room.saturating_sub(text.len());
            fits
        };
        let few = rest
            .iter()
            .take(MAX_TEXTS as usize)
            .take_while(fits)
            .count();
        let (batch, later) = rest.split_at(few);
        rest = later;
        Some(batch).filter(|batch| !batch.is_empty())
    })
}

/// The context, with its threads and its batch. The context is dropped first, because it uses the threads.
struct PooledContext {
    context: Context,
    threads: Threads,
    batch: BatchArrays,
}

// SAFETY: llama.cpp ties neither contexts nor threads to the thread that made them, and the batch only points into itself.
unsafe impl Send for PooledContext {}

impl PooledContext {
    fn new(
        weights: Arc<Weights>,
        options: &Options,
        threads: u32,
        pooling: sys::llama_pooling_type,
        tokens: u32,
    ) -> Result<Self> {
        let args = SessionArgs {
            max_sequences: MAX_TEXTS,
            kv_tokens: tokens,
            max_batch_tokens: tokens,
            ..SessionArgs::default()
        };
        Ok(Self {
            context: Context::for_pooled(weights, &args, options, pooling)?,
            threads: Threads::new(threads, POLL)?,
            batch: BatchArrays::new(MAX_TEXTS, tokens),
        })
    }

    /// Computes texts. The sequence of a text is its place.
    fn compute(&mut self, texts: &[&[u32]]) -> Result<()> {
        self.context.clear();
        self.batch.clear();
        for (seq, text) in (0..).zip(texts) {
            let len = text.len() as u32;
            let span = Span {
                seq,
                len,
                rows: len,
                ..Span::default()
            };
            self.batch.push(&span, text);
        }
        self.threads.attach(&mut self.context, Phase::Prefill);
        // SAFETY: the arrays are the batch's own, and the sequences of spans are below those asked for.
        unsafe { self.context.decode(&self.batch.as_llama()) }?;
        self.threads.settle();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_whole_and_batches_within_their_limits() {
        let tokens = [0; 600];
        let lengths = |texts: &[usize]| -> Vec<Vec<usize>> {
            let texts: Vec<&[u32]> = texts.iter().map(|&len| &tokens[..len]).collect();
            let batches =
                batches(&texts, 600).map(|batch| batch.iter().map(|text| text.len()).collect());
            batches.collect()
        };
        assert_eq!(
            lengths(&[600, 1, 599, 1]),
            [vec![600], vec![1, 599], vec![1]]
        );
        assert_eq!(lengths(&[1; 33]), [vec![1; 32], vec![1]]);
    }
}
