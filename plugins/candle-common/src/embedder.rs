//! Embeddings: in a KV pool of their own, made when the first text comes, and as large as the longest text so far needs.

use std::sync::Arc;

use tenon_plugin_api::{
    Batch, Code, Embedder, EmbedderInfo, Error, Interrupt, Pooling, Result, SpanOut, TextBatch,
};

use crate::{
    decoder::Decoder,
    kv::Element,
    matrix::Matrix,
    pool::{self, Workers},
    sequences::Sequences,
};

/// Most tokens in a batch.
const BATCH_TOKENS: u32 = 256;
/// Most texts in a batch.
const MAX_TEXTS: u32 = 32;

pub struct DecoderEmbedder<E> {
    decoder: Arc<Decoder>,
    pooling: Pooling,
    threads: u32,
    running: Option<Running<E>>,
}

struct Running<E> {
    sequences: Sequences<E>,
    workers: Arc<Workers>,
}

impl<E: Element> DecoderEmbedder<E> {
    pub fn new(decoder: Arc<Decoder>, pooling: Pooling, threads: u32) -> Self {
        Self {
            decoder,
            pooling,
            threads,
            running: None,
        }
    }

    /// Threads, and empty sequences with room for texts of this length.
    fn running(&mut self, longest: usize) -> Result<&mut Running<E>> {
        // A batch may hold the end of one text and the beginning of others.
        let wanted = longest as u32 + BATCH_TOKENS;
        let old = self.running.take();
        let old = old.filter(|old| old.sequences.ledger().stats().total_tokens >= wanted);
        let mut running = match old {
            Some(large_enough) => large_enough,
            None => self.start(wanted.next_power_of_two())?,
        };
        for seq in 0..MAX_TEXTS {
            running.sequences.ledger_mut().free(seq);
        }
        Ok(self.running.insert(running))
    }

    fn start(&self, kv_tokens: u32) -> Result<Running<E>> {
        let workers = Workers::new(self.threads as usize - 1);
        // They sleep where they wait, for they share their cores with those of the session.
        workers.set(workers.count(), 0);
        let decoder = Arc::clone(&self.decoder);
        // As for all texts: some models turn by other frequencies where contexts are long.
        let context_length = decoder.config().context_length;
        Ok(Running {
            sequences: Sequences::new(decoder, MAX_TEXTS, context_length, kv_tokens)?,
            workers: Arc::new(workers),
        })
    }
}

impl<E: Element> Embedder for DecoderEmbedder<E> {
    fn info(&self) -> EmbedderInfo {
        let config = self.decoder.config();
        EmbedderInfo {
            dimensions: config.hidden as u32,
            max_tokens: config.context_length,
            pooling: self.pooling.name().into(),
        }
    }

    fn embed(&mut self, texts: &[&[u32]], interrupt: &Interrupt, out: &mut [f32]) -> Result<()> {
        let pooling = self.pooling;
        let longest = texts.iter().map(|text| text.len()).max();
        let Running { sequences, workers } = self.running(longest.unwrap_or(0))?;
        for batch in TextBatch::cut(texts, BATCH_TOKENS, MAX_TEXTS) {
            let vectors = pool::install(workers, || vectors(sequences, &batch.batch(), interrupt))?;
            batch.pool(pooling, |row| Ok(vectors.row(row)), out)?;
            for seq in batch.ended() {
                sequences.ledger_mut().free(seq);
            }
        }
        Ok(())
    }
}

/// Of all tokens of a batch.
fn vectors<'s, E: Element>(
    sequences: &'s mut Sequences<E>,
    batch: &Batch<'_>,
    interrupt: &Interrupt,
) -> Result<&'s Matrix> {
    let mut admitted = vec![SpanOut::default(); batch.spans().len()];
    sequences.admit(batch, &mut admitted);
    if let Some(refused) = admitted.iter().find(|span| span.status != Code::OK) {
        let message = "the model cannot read a text: it is too long, or has tokens that the model does not know";
        return Err(Error::new(refused.status, message));
    }
    let vectors = sequences.compute(interrupt)?;
    vectors.ok_or_else(|| Error::new(Code::INTERNAL, "a batch without tokens has no vectors"))
}
