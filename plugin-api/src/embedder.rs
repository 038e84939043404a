//! Embeddings: the extension `org.tenon.embeddings/1`.

use crate::{Interrupt, Result};

/// Facts about an [`Embedder`]. The host refuses one with `dimensions` or `max_tokens` of 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmbedderInfo {
    /// Numbers in an embedding.
    pub dimensions: u32,
    /// Tokens of the longest text that it takes.
    pub max_tokens: u32,
    /// How one vector is made of those of all tokens: `mean`, `last` or `cls`. For people.
    pub pooling: String,
}

/// Turns texts into vectors that are near each other where the texts mean the same.
///
/// The host asks for one when it loads a model ([`Model::embedder`](crate::Model::embedder)), and calls `embed` when the first
/// request for embeddings comes, on a thread that does nothing else. So take memory then and not before: most models never
/// see such a request. It owns what it needs of the model, as a session does, and computes beside the session: with as many
/// threads as [`LoadArgs::threads`](crate::LoadArgs::threads) says, and without spinning where they wait.
///
/// [The guide](crate::guide#embeddings) has an example. Backends that compute tokens in batches find the rest of an embedder in
/// [`TextBatch`](crate::TextBatch).
pub trait Embedder: Send {
    /// `[any thread]` Facts about it. They never change.
    fn info(&self) -> EmbedderInfo;

    /// `[one thread at a time]` Embeds texts: at least one, each of 1 to `max_tokens` tokens of the model. `out` is
    /// `[texts, dimensions]`, row by row, and arrives as zeros. The length of a vector means nothing: the host scales it to 1.
    /// The same text gives the same vector, whatever else is in the call, but for rounding.
    ///
    /// # Errors
    /// An error fails the whole call, and the next one is made as if nothing had been. `CANCELLED` when `interrupt` is set:
    /// look at it between texts, and inside of long ones where that is cheap. `NO_MEMORY`, `INTERNAL`.
    fn embed(&mut self, texts: &[&[u32]], interrupt: &Interrupt, out: &mut [f32]) -> Result<()>;
}
