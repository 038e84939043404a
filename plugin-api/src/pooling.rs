//! Pooling: makes the vector of a text from those of its tokens. For backends that compute tokens in batches.

use crate::{Batch, Result, Span};

/// How the vectors of all tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of the tokens' vectors.
    Mean,
    /// The vector of the first token.
    Cls,
    /// The vector of the last token.
    Last,
}

impl Pooling {
    /// The pooling with this number, which GGUF files have as `pooling_type`. Without a number it is the mean, which is the
    /// best choice for models that were not trained for embeddings. None for models that score pairs of texts instead.
    pub fn from_gguf(number: Option<u32>) -> Option<Self> {
        match number {
            None | Some(0 | 1) => Some(Self::Mean),
            Some(2) => Some(Self::Cls),
            Some(3) => Some(Self::Last),
            Some(_) => None,
        }
    }

    /// The name for [`EmbedderInfo::pooling`](crate::EmbedderInfo::pooling).
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Last => "last",
        }
    }

    /// Adds the vector of a text's next token. The length of the result does not matter, so a mean is not divided.
    fn add(self, pooled: &mut [f32], token: &[f32], position: u32) {
        match self {
            Self::Mean => pooled.iter_mut().zip(token).for_each(|(sum, x)| *sum += x),
            Self::Last => pooled.copy_from_slice(token),
            Self::Cls if position == 0 => pooled.copy_from_slice(token),
            Self::Cls => {}
        }
    }
}

/// A batch of consecutive tokens of some texts. [`Embedder::embed`](crate::Embedder::embed) computes one such batch at a
/// time.
///
/// ```
/// use tenon_plugin_api::{Pooling, TextBatch};
///
/// let texts: &[&[u32]] = &[&[1, 3, 5], &[8, 9]];
/// let mut out = [0.0; 4];
/// for batch in TextBatch::cut(texts, 4, 2) {
///     // A model computes a vector for each token, in the order of the batch: here `[token, 1]`.
///     let vectors: Vec<_> = batch.batch().tokens().iter().map(|&token| [token as f32, 1.0]).collect();
///     batch.pool(Pooling::Mean, |row| Ok(&vectors[row]), &mut out)?;
///     // The sequences of texts that end in this batch are free for others.
///     let ended: Vec<_> = batch.ended().collect();
///     assert!(ended == [0] || ended == [1]);
/// }
/// assert_eq!(out, [9.0, 3.0, 17.0, 2.0]);
/// # Ok::<(), tenon_plugin_api::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextBatch {
    tokens: Vec<u32>,
    spans: Vec<Span>,
    /// For each span, the number of its text, and whether the text ends with it.
    texts: Vec<(usize, bool)>,
}

impl TextBatch {
    /// Cuts texts, one after the other, into batches of at most `max_tokens` tokens and `max_sequences` spans. A text that
    /// needs several batches has the same sequence in all of them. Sequence ids are below `max_sequences`.
    pub fn cut(texts: &[&[u32]], max_tokens: u32, max_sequences: u32) -> Vec<Self> {
        let mut batches = Vec::new();
        let mut batch = Self::default();
        for (number, text) in texts.iter().enumerate() {
            let mut start = 0;
            while start < text.len() {
                let room = max_tokens as usize - batch.tokens.len();
                let end = text.len().min(start + room);
                // The texts of a batch are consecutive, so their sequences differ.
                batch.spans.push(Span {
                    seq: number as u32 % max_sequences,
                    start: start as u32,
                    len: (end - start) as u32,
                    rows: (end - start) as u32,
                    ..Span::default()
                });
                batch.tokens.extend_from_slice(&text[start..end]);
                batch.texts.push((number, end == text.len()));
                start = end;
                let full = batch.tokens.len() == max_tokens as usize;
                if full || batch.spans.len() == max_sequences as usize {
                    batches.push(std::mem::take(&mut batch));
                }
            }
        }
        batches.extend(Some(batch).filter(|batch| !batch.spans.is_empty()));
        batches
    }

    /// Number of tokens in a KV pool that has room for these texts: those of the longest text and of a batch, because a batch
    /// may hold the end of one text and the beginning of others. The sequences of [`ended`](Self::ended) texts must be freed.
    pub fn kv_tokens(texts: &[&[u32]], max_tokens: u32) -> u32 {
        let longest = texts.iter().map(|text| text.len()).max();
        longest.unwrap_or(0) as u32 + max_tokens
    }

    /// The batch for [`Session::forward`](crate::Session::forward). Every token has a row.
    pub fn batch(&self) -> Batch<'_> {
        Batch::new(&self.tokens, &self.spans)
    }

    /// Pools the vectors of the batch's tokens into those of their texts. `out` is that of
    /// [`Embedder::embed`](crate::Embedder::embed). The batches of one call must come in their order. `vector` returns the
    /// vector of a row.
    ///
    /// # Errors
    /// The errors of `vector`.
    pub fn pool<'v>(
        &self,
        pooling: Pooling,
        mut vector: impl FnMut(usize) -> Result<&'v [f32]>,
        out: &mut [f32],
    ) -> Result<()> {
        let mut rows = 0..;
        for (span, (text, _)) in self.spans.iter().zip(&self.texts) {
            for (position, row) in (span.start..span.start + span.len).zip(&mut rows) {
                let token = vector(row)?;
                let pooled = &mut out[text * token.len()..][..token.len()];
                pooling.add(pooled, token, position);
            }
        }
        Ok(())
    }

    /// Sequences of the texts that end in this batch.
    pub fn ended(&self) -> impl Iterator<Item = u32> {
        let ended = self.spans.iter().zip(&self.texts);
        ended
            .filter(|(_, (_, ends))| *ends)
            .map(|(span, _)| span.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KvLedger;

    #[test]
    fn batches_are_full_and_texts_whole() {
        let tokens: Vec<u32> = (0..1000).collect();
        let texts: Vec<&[u32]> = [3, 600, 1, 300].map(|len| &tokens[..len]).to_vec();
        let batches = TextBatch::cut(&texts, 256, 32);
        let ranges = |batch: &TextBatch| -> Vec<_> {
            let spans = batch.spans.iter();
            spans
                .map(|span| (span.seq, span.start..span.start + span.len))
                .collect()
        };
        let expected = vec![
            vec![(0, 0..3), (1, 0..253)],
            vec![(1, 253..509)],
            vec![(1, 509..600), (2, 0..1), (3, 0..164)],
            vec![(3, 164..300)],
        ];
        assert_eq!(batches.iter().map(ranges).collect::<Vec<_>>(), expected);
        for (span, own) in batches.iter().flat_map(|batch| batch.batch().iter()) {
            let (start, len) = (span.start as usize, span.len as usize);
            assert_eq!(own, &tokens[start..][..len]);
        }
        let ended = batches
            .iter()
            .map(|batch| batch.ended().collect::<Vec<_>>());
        assert_eq!(
            ended.collect::<Vec<_>>(),
            [vec![0], vec![], vec![1, 2], vec![3]]
        );
    }

    #[test]
    fn texts_have_room_in_their_pool() {
        let tokens = [0; 1000];
        let texts: Vec<&[u32]> = [3, 600, 1, 255, 1000, 2].map(|len| &tokens[..len]).to_vec();
        let mut ledger = KvLedger::new(32, TextBatch::kv_tokens(&texts, 256));
        for batch in TextBatch::cut(&texts, 256, 32) {
            for span in &batch.spans {
                ledger.append(span).unwrap();
            }
            batch.ended().for_each(|seq| ledger.free(seq));
        }
        assert!(ledger.is_empty());
    }

    #[test]
    fn texts_in_a_batch_have_sequences_of_their_own() {
        let texts = vec![&[0_u32][..]; 100];
        let batches = TextBatch::cut(&texts, 256, 32);
        assert_eq!(batches.len(), 4);
        for batch in batches {
            let mut sequences: Vec<_> = batch.ended().collect();
            sequences.sort_unstable();
            sequences.dedup();
            assert_eq!(sequences.len(), batch.spans.len());
        }
    }

    #[test]
    fn texts_are_pooled_across_batches() {
        let texts: &[&[u32]] = &[&[5], &[1, 2, 3, 4], &[7]];
        let pooled = |pooling| {
            let mut out = [0.0; 6];
            for batch in TextBatch::cut(texts, 3, 8) {
                let token = |&token: &u32| [token as f32, 10.0];
                let vectors: Vec<_> = batch.tokens.iter().map(token).collect();
                let row = |row: usize| Ok(&vectors[row][..]);
                batch.pool(pooling, row, &mut out).unwrap();
            }
            out
        };
        assert_eq!(pooled(Pooling::Mean), [5.0, 10.0, 10.0, 40.0, 7.0, 10.0]);
        assert_eq!(pooled(Pooling::Cls), [5.0, 10.0, 1.0, 10.0, 7.0, 10.0]);
        assert_eq!(pooled(Pooling::Last), [5.0, 10.0, 4.0, 10.0, 7.0, 10.0]);
    }

    #[test]
    fn numbers_of_gguf_files() {
        let pooling = [None, Some(0), Some(1), Some(2), Some(3), Some(4)].map(Pooling::from_gguf);
        let mean = Some(Pooling::Mean);
        let expected = [
            mean,
            mean,
            mean,
            Some(Pooling::Cls),
            Some(Pooling::Last),
            None,
        ];
        assert_eq!(pooling, expected);
    }
}
