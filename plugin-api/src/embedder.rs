//! Embeddings: the extension `org.tenon.embeddings/1`.

use crate::{Interrupt, Meta, Result};

/// Facts about an [`Embedder`]. The host refuses an embedder with `dimensions` or `max_tokens` of 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EmbedderInfo {
    /// Length of an embedding.
    pub dimensions: u32,
    /// Longest text, in tokens.
    pub max_tokens: u32,
    /// How the vectors of all tokens become one: `mean`, `last`, `cls`, or `rank` for a judge of pairs. For people.
    pub pooling: String,
    /// More facts.
    pub meta: Meta,
}

impl EmbedderInfo {
    /// An embedder that makes vectors of this length from texts of up to `max_tokens` tokens, pooled in this way.
    pub fn new(dimensions: u32, max_tokens: u32, pooling: impl Into<String>) -> Self {
        Self {
            dimensions,
            max_tokens,
            pooling: pooling.into(),
            meta: Meta::default(),
        }
    }

    /// An embedder that judges pairs of texts, as cross-encoders do. Its text is a query with a document, in one text of up to
    /// `max_tokens` tokens, and its vector is one number from 0 to 1: how relevant the document is to the query. The host
    /// leaves that number as it is.
    ///
    /// `template` is the text of a pair. It has `{query}` and `{document}` in the places of the two texts, and is read with its
    /// control tokens, for example `[CLS]{query}[SEP]{document}[SEP]`. Control tokens that are written in the two texts are
    /// read as text.
    pub fn judge(max_tokens: u32, template: impl Into<String>) -> Self {
        let mut info = Self::new(1, max_tokens, "rank");
        info.meta.set(PAIR, template);
        info
    }

    /// The template of a pair, if the embedder judges pairs of texts.
    pub fn pair_template(&self) -> Option<&str> {
        self.meta.get(PAIR)
    }
}

/// The fact that makes an embedder a judge of pairs: the template of a pair.
const PAIR: &str = "pair";

/// Turns texts into vectors. Texts with a similar meaning get vectors that are near each other.
///
/// The host asks for an embedder when it loads a model ([`Model::embedder`](crate::Model::embedder)). It calls `embed` when
/// the first request for embeddings comes, on a thread that does nothing else. So take memory in `embed` and not before:
/// most models never see such a request. An embedder owns what it needs of the model, as a session does, and computes beside
/// the session: with as many threads as [`LoadArgs::threads`](crate::LoadArgs::threads) says, which do not spin while they
/// wait.
///
/// [The guide](crate::guide#embeddings) has an example. [`TextBatch`](crate::TextBatch) is most of an embedder for backends
/// that compute tokens in batches.
pub trait Embedder: Send {
    /// `[any thread]` Facts about the embedder. They never change.
    fn info(&self) -> EmbedderInfo;

    /// `[one thread at a time]` Embeds texts: at least one, each of 1 to `max_tokens` tokens of the model. `out` is `[texts,
    /// dimensions]`, row by row, and arrives as zeros. The length of a vector does not matter: the host scales it to 1. The
    /// same text gives the same vector except for rounding, whatever else is in the call.
    ///
    /// # Errors
    /// An error fails the whole call, and the next call is made as if nothing had happened. `CANCELLED` when `interrupt` is
    /// set: check it between texts, and within long texts where that is cheap. `NO_MEMORY`, `INTERNAL`.
    fn embed(&mut self, texts: &[&[u32]], interrupt: &Interrupt, out: &mut [f32]) -> Result<()>;
}
