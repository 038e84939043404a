//! Embeddings: in a KV pool of their own, made when the first text comes, and as large as the longest text so far needs.

use std::sync::Arc;

use tenon_plugin_api::{
    Batch, Code, Embedder, EmbedderInfo, Error, Interrupt, Pooling, Result, SpanOut, TextBatch,
};

use crate::{decoder::Decoder, kv::Element, matrix::Matrix, sequences::Sequences};

/// Most tokens in a batch.
const BATCH_TOKENS: u32 = 256;
/// Most texts in a batch.
const MAX_TEXTS: u32 = 32;

pub struct DecoderEmbedder<E> {
    decoder: Arc<Decoder>,
    pooling: Pooling,
    sequences: Option<Sequences<E>>,
}

impl<E: Element> DecoderEmbedder<E> {
    pub fn new(decoder: Arc<Decoder>, pooling: Pooling) -> Self {
        Self {
            decoder,
            pooling,
            sequences: None,
        }
    }

    /// Empty sequences with room for texts of this length.
    fn sequences(&mut self, longest: usize) -> &mut Sequences<E> {
        // A batch may hold the end of one text and the beginning of others.
        let wanted = longest as u32 + BATCH_TOKENS;
        let old = self.sequences.take();
        let old = old.filter(|old| old.ledger().stats().total_tokens >= wanted);
        let mut sequences = old.unwrap_or_else(|| {
            // As for all texts: some models turn by other frequencies where contexts are long.
            let context_length = self.decoder.config().context_length;
            Sequences::new(
                Arc::clone(&self.decoder),
                MAX_TEXTS,
                context_length,
                wanted.next_power_of_two(),
            )
        });
        for seq in 0..MAX_TEXTS {
            sequences.ledger_mut().free(seq);
        }
        self.sequences.insert(sequences)
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
        let sequences = self.sequences(longest.unwrap_or(0));
        for batch in TextBatch::cut(texts, BATCH_TOKENS, MAX_TEXTS) {
            let vectors = vectors(sequences, &batch.batch(), interrupt)?;
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
