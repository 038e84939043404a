//! Embeddings. They have a KV pool of their own. It is made for the first text, and has room for the longest text so far.

use std::sync::Arc;

use tenon_plugin_api::{
    Batch, Code, Embedder, EmbedderInfo, Error, Interrupt, Pooling, Result, SpanOut, TextBatch,
};

use crate::{
    compute::Compute,
    decoder::Decoder,
    kv::KvType,
    matrix::Matrix,
    pool::{self, Workers},
    sequences::Sequences,
};

/// Most tokens in a batch.
const BATCH_TOKENS: u32 = 256;
/// Most texts in a batch.
const MAX_TEXTS: u32 = 32;

pub struct DecoderEmbedder<C: Compute> {
    decoder: Arc<Decoder<C>>,
    pooling: Pooling,
    kv_type: KvType,
    threads: u32,
    running: Option<EmbeddingSequences<C>>,
}

/// The sequences of embeddings, and the threads that compute them.
struct EmbeddingSequences<C: Compute> {
    sequences: Sequences<C>,
    /// A copy of the vectors, if they are computed on another device.
    copy: Matrix,
    workers: Arc<Workers>,
}

impl<C: Compute> DecoderEmbedder<C> {
    /// `threads` is used only if the device computes with threads.
    pub fn new(decoder: Arc<Decoder<C>>, pooling: Pooling, kv_type: KvType, threads: u32) -> Self {
        Self {
            decoder,
            pooling,
            kv_type,
            threads: if C::THREADS { threads } else { 1 },
            running: None,
        }
    }

    /// The threads and the empty sequences, with room for at least `kv_tokens` tokens.
    fn running(&mut self, kv_tokens: u32) -> Result<&mut EmbeddingSequences<C>> {
        let old = self.running.take();
        let old = old.filter(|old| old.sequences.ledger().stats().total_tokens >= kv_tokens);
        let mut running = match old {
            Some(large_enough) => large_enough,
            None => self.start(kv_tokens.next_power_of_two())?,
        };
        for seq in 0..MAX_TEXTS {
            running.sequences.ledger_mut().free(seq);
        }
        Ok(self.running.insert(running))
    }

    fn start(&self, kv_tokens: u32) -> Result<EmbeddingSequences<C>> {
        let workers = Workers::new(self.threads as usize - 1);
        // The threads sleep while they wait, because they share their cores with those of the session.
        workers.set(workers.count(), 0);
        let decoder = Arc::clone(&self.decoder);
        // Not the length of the texts: some models use other RoPE frequencies for long contexts, and vectors must not depend
        // on that.
        let context_length = decoder.config().context_length;
        Ok(EmbeddingSequences {
            sequences: Sequences::new(decoder, MAX_TEXTS, context_length, self.kv_type, kv_tokens)?,
            copy: Matrix::zeros(0, 1),
            workers: Arc::new(workers),
        })
    }
}

impl<C: Compute> Embedder for DecoderEmbedder<C> {
    fn info(&self) -> EmbedderInfo {
        let config = self.decoder.config();
        EmbedderInfo::new(
            config.hidden as u32,
            config.context_length,
            self.pooling.name(),
        )
    }

    fn embed(&mut self, texts: &[&[u32]], interrupt: &Interrupt, out: &mut [f32]) -> Result<()> {
        let pooling = self.pooling;
        let decoder = Arc::clone(&self.decoder);
        let running = self.running(TextBatch::kv_tokens(texts, BATCH_TOKENS))?;
        for batch in TextBatch::cut(texts, BATCH_TOKENS, MAX_TEXTS) {
            let workers = Arc::clone(&running.workers);
            let vectors = pool::install(&workers, || {
                running.vectors(decoder.compute(), &batch.batch(), interrupt)
            })?;
            batch.pool(pooling, |row| Ok(vectors.row(row)), out)?;
            for seq in batch.ended() {
                running.sequences.ledger_mut().free(seq);
            }
        }
        Ok(())
    }
}

impl<C: Compute> EmbeddingSequences<C> {
    /// The vectors of all tokens of a batch.
    fn vectors(
        &mut self,
        compute: &C,
        batch: &Batch<'_>,
        interrupt: &Interrupt,
    ) -> Result<&Matrix> {
        let mut admitted = vec![SpanOut::default(); batch.spans().len()];
        self.sequences.admit(batch, &mut admitted);
        if let Some(refused) = admitted.iter().find(|span| span.status != Code::OK) {
            let message = "the model cannot read a text: it is too long, or has tokens that the model does not know";
            return Err(Error::new(refused.status, message));
        }
        let vectors = self.sequences.compute(interrupt)?;
        let vectors = vectors
            .ok_or_else(|| Error::new(Code::INTERNAL, "a batch without tokens has no vectors"))?;
        compute.read(vectors, &mut self.copy)
    }
}
