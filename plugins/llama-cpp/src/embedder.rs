//! Embeddings. They have a context of their own. It is made for the first text, and has room for the longest text so far.
//!
//! llama.cpp can pool too, but only texts that fit into one micro-batch. So llama.cpp computes the vectors of all tokens, and
//! this module pools them. A long text then needs no larger compute buffers than a short one.

use std::sync::Arc;

use tenon_plugin_api::{
    Embedder, EmbedderInfo, Interrupt, Pooling, Result, SessionArgs, TextBatch,
};

use crate::{
    batch::BatchArrays,
    context::Context,
    options::Options,
    threads::{Phase, Threads},
    weights::Weights,
};

/// Most tokens in a batch. llama.cpp computes logits for all of them, which nobody reads: a larger batch would cost memory.
const BATCH_TOKENS: u32 = 256;
/// Most texts in a batch.
const MAX_TEXTS: u32 = 32;
/// Waiting threads sleep, because they share their cores with those of the session.
const POLL: u32 = 0;

pub struct LlamaEmbedder {
    weights: Arc<Weights>,
    options: Options,
    threads: u32,
    pooling: Pooling,
    running: Option<EmbeddingContext>,
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

    /// A context with room for at least `kv_tokens` tokens.
    fn running(&mut self, kv_tokens: u32) -> Result<&mut EmbeddingContext> {
        let old = self.running.take();
        let running = match old.filter(|old| old.context.kv_tokens() >= kv_tokens) {
            Some(large_enough) => large_enough,
            None => EmbeddingContext::new(
                self.weights.clone(),
                &self.options,
                self.threads,
                kv_tokens.next_power_of_two(),
            )?,
        };
        Ok(self.running.insert(running))
    }
}

impl Embedder for LlamaEmbedder {
    fn info(&self) -> EmbedderInfo {
        EmbedderInfo::new(
            self.weights.embedding_dimensions(),
            self.weights.0.n_ctx_train(),
            self.pooling.name(),
        )
    }

    fn embed(&mut self, texts: &[&[u32]], interrupt: &Interrupt, out: &mut [f32]) -> Result<()> {
        let dimensions = self.weights.embedding_dimensions() as usize;
        let pooling = self.pooling;
        let running = self.running(TextBatch::kv_tokens(texts, BATCH_TOKENS))?;
        running.context.set_interrupt(interrupt);
        running.context.clear();
        for batch in TextBatch::cut(texts, BATCH_TOKENS, MAX_TEXTS) {
            running.compute(&batch)?;
            let vector = |row| running.context.embedding(row as i32, dimensions);
            batch.pool(pooling, vector, out)?;
            for seq in batch.ended() {
                running.context.remove(seq, 0);
            }
        }
        Ok(())
    }
}

/// The context of embeddings, with its threads and its batch. The context is dropped first, because it uses the threads.
struct EmbeddingContext {
    context: Context,
    threads: Threads,
    batch: BatchArrays,
}

// SAFETY: llama.cpp ties neither contexts nor threads to the thread that made them, and the batch only points into itself.
unsafe impl Send for EmbeddingContext {}

impl EmbeddingContext {
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

    fn compute(&mut self, batch: &TextBatch) -> Result<()> {
        self.batch.clear();
        for (span, tokens) in batch.batch().iter() {
            self.batch.push(span, tokens);
        }
        self.threads.attach(&mut self.context, Phase::Prefill);
        // SAFETY: the arrays are the batch's own, and the sequences of spans are below those asked for.
        unsafe { self.context.decode(&self.batch.as_llama()) }?;
        self.threads.settle();
        Ok(())
    }
}
