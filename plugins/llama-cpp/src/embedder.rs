//! Embeddings: a context of their own, made when the first text comes, and as large as the longest text so far needs.
//!
//! llama.cpp can pool too, but only what fits into one micro-batch. So it gives the vectors of all tokens, and they are pooled
//! here: a text of any length then takes no more compute buffers than a short one.

use std::{ops::Range, sync::Arc};

use tenon_plugin_api::{Embedder, EmbedderInfo, Interrupt, Result, SessionArgs, Span};

use crate::{
    batch::BatchArrays,
    context::Context,
    model::Weights,
    options::Options,
    threads::{Threads, Use},
};

/// Most tokens in a batch. llama.cpp makes logits for all of them, which nobody reads: more would cost memory.
const BATCH_TOKENS: u32 = 256;
/// Most texts in a batch.
const MAX_TEXTS: u32 = 32;
/// The waiting threads sleep, for they share their cores with those of the session.
const POLL: u32 = 0;

/// How one vector is made of those of all tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    Mean,
    /// The first token's.
    Cls,
    Last,
}

impl Pooling {
    /// By llama.cpp's number for it. Without one it is the mean, which suits models that were not trained for embeddings best.
    /// None for models that judge pairs of texts instead.
    pub fn from_number(number: Option<u32>) -> Option<Self> {
        match number {
            None | Some(0 | 1) => Some(Self::Mean),
            Some(2) => Some(Self::Cls),
            Some(3) => Some(Self::Last),
            Some(_) => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Last => "last",
        }
    }

    /// Takes in the vector of a text's next token. Lengths mean nothing, so a mean need not be divided.
    fn add(self, pooled: &mut [f32], token: &[f32], position: usize) {
        match self {
            Self::Mean => pooled.iter_mut().zip(token).for_each(|(sum, x)| *sum += x),
            Self::Last => pooled.copy_from_slice(token),
            Self::Cls if position == 0 => pooled.copy_from_slice(token),
            Self::Cls => {}
        }
    }
}

pub struct LlamaEmbedder {
    weights: Arc<Weights>,
    options: Options,
    threads: u32,
    pooling: Pooling,
    running: Option<Running>,
}

impl LlamaEmbedder {
    pub fn new(weights: Arc<Weights>, options: Options, threads: u32, pooling: Pooling) -> Self {
        Self {
            weights,
            options,
            threads,
            pooling,
            running: None,
        }
    }

    /// A context with room for texts of this length.
    fn running(&mut self, longest: usize) -> Result<&mut Running> {
        // A batch may hold the end of one text and the beginning of others.
        let wanted = longest as u32 + BATCH_TOKENS;
        let old = self.running.take();
        let running = match old.filter(|old| old.context.kv_tokens() >= wanted) {
            Some(large_enough) => large_enough,
            None => Running::new(
                self.weights.clone(),
                &self.options,
                self.threads,
                wanted.next_power_of_two(),
            )?,
        };
        Ok(self.running.insert(running))
    }
}

impl Embedder for LlamaEmbedder {
    fn info(&self) -> EmbedderInfo {
        EmbedderInfo {
            dimensions: self.weights.embedding_dimensions(),
            max_tokens: self.weights.0.n_ctx_train(),
            pooling: self.pooling.name().into(),
        }
    }

    fn embed(&mut self, texts: &[&[u32]], interrupt: &Interrupt, out: &mut [f32]) -> Result<()> {
        let dimensions = self.weights.embedding_dimensions() as usize;
        let pooling = self.pooling;
        let longest = texts.iter().map(|text| text.len()).max();
        let running = self.running(longest.unwrap_or(0))?;
        running.context.set_interrupt(interrupt);
        running.context.clear();
        for pieces in batches(texts) {
            running.compute(&pieces, texts)?;
            let mut rows = 0..;
            for Piece { text, tokens } in pieces {
                let pooled = &mut out[text * dimensions..][..dimensions];
                for (position, row) in tokens.zip(&mut rows) {
                    pooling.add(
                        pooled,
                        running.context.embedding(row, dimensions)?,
                        position,
                    );
                }
            }
        }
        Ok(())
    }
}

/// A context, what computes it and what it is asked with. The context goes first, because it uses the threads.
struct Running {
    context: Context,
    threads: Threads,
    batch: BatchArrays,
}

// SAFETY: llama.cpp ties neither contexts nor threads to the thread that made them, and the batch points into itself only.
unsafe impl Send for Running {}

impl Running {
    fn new(weights: Arc<Weights>, options: &Options, threads: u32, kv_tokens: u32) -> Result<Self> {
        let args = SessionArgs {
            max_sequences: MAX_TEXTS,
            kv_tokens,
            max_batch_tokens: BATCH_TOKENS,
            ..SessionArgs::default()
        };
        Ok(Self {
            context: Context::for_embeddings(weights, &args, options)?,
            threads: Threads::new(threads, POLL)?,
            batch: BatchArrays::new(MAX_TEXTS, BATCH_TOKENS),
        })
    }

    fn compute(&mut self, pieces: &[Piece], texts: &[&[u32]]) -> Result<()> {
        self.batch.clear();
        for piece in pieces {
            let tokens = &texts[piece.text][piece.tokens.clone()];
            self.batch.push(&piece.span(), tokens);
        }
        self.threads.attach(&mut self.context, Use::Prefill);
        // SAFETY: the arrays are the batch's own, and the sequences of spans are below those asked for.
        unsafe { self.context.decode(&self.batch.as_llama()) }?;
        self.threads.settle();
        for piece in pieces {
            if piece.tokens.end == texts[piece.text].len() {
                self.context.remove(piece.span().seq, 0);
            }
        }
        Ok(())
    }
}

/// Consecutive tokens of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    text: usize,
    tokens: Range<usize>,
}

impl Piece {
    /// The texts of a batch follow each other, so that their sequences differ.
    fn span(&self) -> Span {
        let len = self.tokens.len() as u32;
        Span {
            seq: self.text as u32 % MAX_TEXTS,
            position: self.tokens.start as u32,
            len,
            rows: len,
            ..Span::default()
        }
    }
}

/// The texts one after the other, cut into full batches.
fn batches(texts: &[&[u32]]) -> Vec<Vec<Piece>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut room = BATCH_TOKENS as usize;
    for (text, tokens) in texts.iter().enumerate() {
        let mut start = 0;
        while start < tokens.len() {
            let end = tokens.len().min(start + room);
            batch.push(Piece {
                text,
                tokens: start..end,
            });
            room -= end - start;
            start = end;
            if room == 0 || batch.len() == MAX_TEXTS as usize {
                batches.push(std::mem::take(&mut batch));
                room = BATCH_TOKENS as usize;
            }
        }
    }
    batches.extend(Some(batch).filter(|batch| !batch.is_empty()));
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_full_and_texts_whole() {
        let tokens = [0; 1000];
        let texts: Vec<&[u32]> = [3, 600, 1, 300].map(|len| &tokens[..len]).to_vec();
        let ranges: Vec<Vec<_>> = batches(&texts)
            .into_iter()
            .map(|batch| batch.into_iter().map(|p| (p.text, p.tokens)).collect())
            .collect();
        let expected = vec![
            vec![(0, 0..3), (1, 0..253)],
            vec![(1, 253..509)],
            vec![(1, 509..600), (2, 0..1), (3, 0..164)],
            vec![(3, 164..300)],
        ];
        assert_eq!(ranges, expected);
    }

    #[test]
    fn texts_in_a_batch_have_sequences_of_their_own() {
        let texts = vec![&[0_u32][..]; 100];
        for batch in batches(&texts) {
            let mut sequences: Vec<_> = batch.iter().map(|piece| piece.span().seq).collect();
            sequences.sort_unstable();
            sequences.dedup();
            assert_eq!(sequences.len(), batch.len());
        }
    }
}
